"""datasets.sailvos: SAIL-VOS, people of a game's scenes; its authors give poses on request.

In   SAIL-VOS/SEQ/images/000000.bmp (or .jpg, .png), SEQ/ID_Ped_NAME/000000_2d.txt and
     000000_3d.txt: a row a bone of the game's rig, px from the first pixel's corner and metres in
     the game's world
Out  2D and 3D `sailvos26`; boxes around the joints

The set gives no cameras. Each frame's is found from its 2D-3D pairs: principal point in the middle,
square pixels, no distortion, focal length by search. A frame that fits no such camera keeps its 2D
only. Rows of zeros (3D) or off the screen (2D) are unknown. The game shows people without poses
too, so `complete` is False.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import minimize_scalar

from mpmesh_core.camera import Camera
from mpmesh_core.datasets.boxes import keypoint_box
from mpmesh_core.datasets.catalogue import dataset_info
from mpmesh_core.datasets.files import finite, home, need, read_lines, reading
from mpmesh_core.datasets.pictures import picture_size
from mpmesh_core.datasets.record import FrameRecord, PersonRecord, Picture
from mpmesh_core.types import Array

INFO = dataset_info("sailvos")
BONES: tuple[tuple[int, ...], ...] = (
    (341, 8), (61,), (216, 234), (171,), (164, 309), (255, 39), (330,), (108,), (45, 294),
    (215, 131, 253), (295,), (144, 315), (147, 342, 27), (85,), (152,), (206, 128, 102),
    (307, 312), (130,), (11,), (167, 188, 191, 310), (194, 193, 236, 78), (227, 304, 58, 229),
    (37, 260, 195), (47, 148, 232), (323,), (160,),
)  # fmt: skip
"""Rows of the rig that stand for each joint of `sailvos26`; the mean of those that are known."""
_OFF_SCREEN = (-1280.0, -800.0)  # what unknown 2D holds
_LEAST_PAIRS = 8
_MOST_ERROR = 2.0  # [px] RMS, of a camera that is believed
_FOV_DEG = (20.0, 110.0)


def read(root: Path, split: str) -> Iterator[FrameRecord]:
    """Frames with poses, sequence by sequence."""
    folder = home(INFO, root)
    sequences = sorted(place for place in folder.iterdir() if (place / "images").is_dir())
    if not sequences:
        need(INFO, folder / "ah_1_mcs_1" / "images")
    any_pose = False
    for place in sequences:
        frames = defaultdict(list)
        for path in sorted(place.glob("*_Ped_*/*_2d.txt")):
            frames[path.stem.removesuffix("_2d")].append(path)
        for stem, paths in sorted(frames.items()):
            any_pose = True
            yield _frame(place, stem, paths)
    if not any_pose:
        need(INFO, sequences[0] / "0_Ped_0" / "000000_2d.txt")


def _frame(place: Path, stem: str, paths: list[Path]) -> FrameRecord:
    suffixes = (".bmp", ".jpg", ".png")
    picture = need(INFO, *(place / "images" / f"{stem}{suffix}" for suffix in suffixes))
    width, height = picture_size(picture)
    pairs = [_bones(path) for path in paths]
    found = _calibrate(np.concatenate(pairs), width, height)
    people = []
    for path, bones in zip(paths, pairs):
        joints = _joints(bones)
        if (joints[:, 2] > 0).sum() < 2:
            continue
        points3d = {}
        if found is not None:
            _, R, t = found
            xyz = np.where(joints[:, 6:] > 0, joints[:, 3:6] @ R.T + t, 0)
            points3d["sailvos26"] = np.column_stack((xyz, joints[:, 6])).astype(np.float32)
        pixels = joints[:, :3].astype(np.float32)
        identity = int(path.parent.name.split("_")[0])
        people.append(
            PersonRecord(keypoint_box(pixels), {"sailvos26": pixels}, points3d, identity=identity)
        )
    return FrameRecord(
        dataset=INFO.name,
        sequence=place.name,
        number=int(stem),
        picture=Picture(picture),
        width=width,
        height=height,
        people=tuple(people),
        camera=None if found is None else found[0],
        complete=False,
    )


def _bones(path: Path) -> Array:
    """(B, 7) u, v [px], known, x, y, z [m, world], known."""
    other = need(INFO, path.with_name(path.name.replace("_2d", "_3d")))
    pixels = finite(INFO, path, (-1, 2), _numbers(path))
    points = finite(INFO, other, (len(pixels), 3), _numbers(other))
    if len(pixels) <= max(max(rows) for rows in BONES):
        with reading(INFO, path):
            raise ValueError(f"{len(pixels)} bones, fewer than the rig has")
    seen = ~np.isin(pixels[:, 0], _OFF_SCREEN)
    return np.column_stack((pixels - 0.5, seen, points, points.any(1)))


def _numbers(path: Path) -> list[list[float]]:
    lines = read_lines(INFO, path)
    with reading(INFO, path):
        return [[float(word) for word in line.split()] for line in lines]


def _joints(bones: Array) -> Array:
    """(26, 7) as `_bones`, each joint the mean of its rows that are known."""
    joints = np.zeros((len(BONES), 7))
    for joint, rows in zip(joints, BONES):
        for part in (slice(0, 3), slice(3, 7)):
            known = bones[list(rows), part]
            known = known[known[:, -1] > 0]
            if len(known):
                joint[part] = known.mean(0)
    return joints


def _calibrate(bones: Array, width: int, height: int) -> tuple[Camera, Array, Array] | None:
    """Camera, R_cam_world, t_cam_world of a frame; None where no pinhole camera explains it."""
    known = bones[(bones[:, 2] > 0) & (bones[:, 6] > 0)]
    if len(known) < _LEAST_PAIRS:
        return None
    middle = known[:, 3:6].mean(0)  # the game's world is kilometres wide
    points = np.ascontiguousarray(known[:, 3:6] - middle)
    pixels = np.ascontiguousarray(known[:, :2])
    if np.linalg.matrix_rank(points, tol=1e-3) < 3:  # flat: the focal length can't be told
        return None

    def fit(fov_deg: float) -> tuple[float, Camera, Array, Array]:
        camera = Camera.from_fov(width, height, fov_deg)
        good, rotation, t = cv2.solvePnP(points, pixels, camera.K, None, flags=cv2.SOLVEPNP_SQPNP)
        if not good:
            return np.inf, camera, np.eye(3), np.zeros(3)
        R, t = cv2.Rodrigues(rotation)[0], t.ravel()
        error = camera.project(points @ R.T + t) - pixels
        return float(np.sqrt((error**2).sum(1).mean())), camera, R, t

    best = minimize_scalar(lambda fov: fit(fov)[0], bounds=_FOV_DEG, method="bounded").x
    error, camera, R, t = fit(float(best))
    return (camera, R, t - R @ middle) if error <= _MOST_ERROR else None
