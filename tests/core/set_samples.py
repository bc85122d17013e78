"""Tiny data sets in the official layouts of 3DPW, MuPoTS-3D and AGORA, with made-up people."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from body_samples import dense, smpl_content
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from mpmesh_core.body import load_body
from mpmesh_core.datasets import FrameRecord, read_dataset

VERTICES = 97


def write_smpl(folder: Path) -> Path:
    """SMPL_{NEUTRAL,MALE,FEMALE}.npz and a regressor, all of one random body."""
    folder.mkdir(parents=True, exist_ok=True)
    for gender in ("NEUTRAL", "MALE", "FEMALE"):
        np.savez(folder / f"SMPL_{gender}.npz", **dense(smpl_content(VERTICES)))
    rng = np.random.default_rng(5)
    regressor = rng.dirichlet(np.ones(VERTICES), 17) * rng.uniform(0.9996, 1.0, (17, 1))  # as real
    np.save(folder / "J_regressor_h36m.npy", regressor)
    return folder


def posed(body_file: Path, poses: np.ndarray, betas: np.ndarray, transl: np.ndarray):
    """Joints (N, 24, 3) and vertices (N, V, 3) of axis-angle poses (N, 72), in float64."""
    body = load_body(body_file, dtype=torch.float64)
    matrices = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    output = body(*(torch.from_numpy(np.asarray(x, float)) for x in (matrices, betas, transl)))
    return output.joints.numpy(), output.vertices.numpy()


def write_threedpw(root: Path, smpl: Path, frames: int = 3, people: int = 2, seed: int = 0) -> dict:
    """One test sequence, and what is known of it in the camera frame."""
    rng = np.random.default_rng(seed)
    K = np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]])
    cameras = np.tile(np.eye(4), (frames, 1, 1))
    cameras[:, :3, :3] = Rotation.random(frames, random_state=seed).as_matrix()
    cameras[:, :3, 3] = rng.normal(size=(frames, 3))
    truth: dict = {"joints": [], "vertices": [], "K": K}
    content: dict = {
        "sequence": "walk_00",
        "poses": [], "betas": [], "trans": [], "poses2d": [], "jointPositions": [],
        "genders": ["m", "f", "m"][:people],
        "cam_intrinsics": K,
        "cam_poses": cameras,
        "campose_valid": [np.ones(frames) for _ in range(people)],
    }  # fmt: skip
    content["campose_valid"][0][-1] = 0
    for person in range(people):
        poses = rng.normal(0, 0.4, (frames, 72))
        betas = rng.normal(size=10)
        shapes = np.tile(betas, (frames, 1))
        # The people stand in the camera's view: their place in the world follows from it.
        goal = np.array([person - 0.5, 0.0, 5.0])
        rest = posed(smpl / "SMPL_MALE.npz", np.zeros((1, 72)), betas[None], np.zeros((1, 3)))
        R, t = cameras[:, :3, :3], cameras[:, :3, 3]
        transl = np.einsum("fji,fj->fi", R, goal - t) - rest[0][0, 0]
        joints, vertices = posed(smpl / "SMPL_MALE.npz", poses, shapes, transl)
        seen = np.einsum("fij,fkj->fki", R, joints) + t[:, None]
        truth["joints"].append(seen)
        truth["vertices"].append(np.einsum("fij,fkj->fki", R, vertices) + t[:, None])
        pixels = seen[:, :18] @ K.T
        points = np.concatenate([pixels[..., :2] / pixels[..., 2:], np.ones((frames, 18, 1))], -1)
        content["poses"].append(poses)
        content["betas"].append(np.concatenate([betas, np.zeros(290)]))
        content["trans"].append(transl)
        content["poses2d"].append(points.transpose(0, 2, 1))
        content["jointPositions"].append(joints.reshape(frames, 72))
    path = root / "sequenceFiles/test/walk_00.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    _pictures(root / "imageFiles/walk_00", "image_{:05d}.jpg", frames, (640, 480))
    return truth


def write_mupots(
    root: Path,
    name: str = "TS1",
    frames: int = 3,
    people: int = 2,
    seed: int = 0,
    empty: bool = False,
):
    """One sequence; returns 2D and 3D truth by frame and person: (F, P, 17, 2), (F, P, 17, 3).

    Person 1 of frame 0 isn't valid; with `empty` there is no label of that person.
    """
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, 300, (frames, people, 17, 3)) + [0, 0, 4000]
    pixels = joints[..., :2] / joints[..., 2:] * [800, 820] + [320, 250]
    cells, labels = np.empty((frames, people), object), np.empty((frames, people), object)
    for index in np.ndindex(frames, people):
        cells[index] = {
            "annot2": pixels[index].T,
            "annot3": joints[index].T,
            "univ_annot3": 0.9 * joints[index].T,
            "isValidFrame": np.uint8(index != (0, 1)),
        }
        labels[index] = (np.arange(17) % 5 == 0).astype(float)[None]
    if empty:
        for key in ("annot2", "annot3", "univ_annot3"):
            cells[0, 1][key] = np.zeros((0, 0))
        labels[0, 1] = np.zeros((0, 0))
    folder = root / name
    folder.mkdir(parents=True)
    savemat(folder / "annot.mat", {"annotations": cells})
    savemat(folder / "occlusion.mat", {"occlusion_labels": labels})
    _pictures(folder, "img_{:06d}.jpg", frames, (640, 480))
    return pixels, joints


def write_agora(root: Path, people: int = 3, seed: int = 0, vertices: int = VERTICES):
    """Two pictures in a data frame, the second without anybody who must be found."""
    import pandas

    rng = np.random.default_rng(seed)
    names = ["ag_scene_00001.png", "ag_scene_00002.png"]
    joints = rng.normal(0, 0.4, (2, people, 45, 3)) + [0, 0, 8]
    joints[..., 0] += np.arange(people)[:, None] * 2
    pixels = joints[..., :2] / joints[..., 2:] * 2987 + [1920, 1080]
    meshes = rng.normal(0, 0.4, (2, people, vertices, 3)) + [0, 0, 8]
    frame = pandas.DataFrame(
        {
            "imgPath": names,
            "isValid": [[True] * people, [False] * people],
            "occlusion": [[5.0] * people, [95.0] * people],
            "kid": [[False] * (people - 1) + [True]] * 2,
            "gt_joints_2d": [list(rows) for rows in pixels],
            "gt_joints_3d": [list(rows) for rows in joints],
            "gt_verts": [list(rows) for rows in meshes],
        }
    )
    folder = root / "validation_SMPL/SMPL"
    folder.mkdir(parents=True)
    frame.to_pickle(folder / "validation_0_withjv.pkl")
    np.save(root / "body_verts_smpl.npy", np.arange(10, 60, dtype=np.uint32))
    return pixels, joints, meshes


def _pictures(folder: Path, name: str, count: int, size: tuple[int, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        grey = np.full((size[1], size[0], 3), 90 + number, np.uint8)
        cv2.imwrite(str(folder / name.format(number)), grey)


def threedpw(root: Path) -> Iterator[FrameRecord]:
    return read_dataset("3dpw", root, "test")


def agora(root: Path) -> Iterator[FrameRecord]:
    return read_dataset("agora", root, "validation")


def pickled(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


def garbage(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x80\x02garbage" * 9)
    return path
