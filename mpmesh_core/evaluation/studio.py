"""evaluation.studio: 3D accuracy on frames of Human3.6M and MPI-INF-3DHP with truth.

Protocol. One person a frame, the true camera, the person with the best score; the twelve limb
joints (shoulders, elbows, wrists, hips, knees, ankles) of the final mesh in Human3.6M's convention
against the truth's; MPJPE after moving both onto the middle of the hips, PA-MPJPE after a
similarity. Both data sets' skeletons differ from ours by a few centimetres at hips and shoulders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpmesh_core.body.pickles import read_arrays
from mpmesh_core.camera import Camera
from mpmesh_core.datasets.conventions import MPI17
from mpmesh_core.errors import InputError, refusing
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from mpmesh_core.joints import H36M_JOINTS
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.sources.images import read_image
from mpmesh_core.types import Array

LIMBS = tuple(
    f"{side}_{joint}"
    for side in ("left", "right")
    for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
)


@dataclass(frozen=True)
class StudioFrame:
    """One picture with the 3D truth of one person."""

    name: str
    image: Array  # (H, W, 3) uint8 RGB
    camera: Camera
    limbs: Array  # (12, 3) [m], camera frame, order of LIMBS


@dataclass(frozen=True)
class StudioReport:
    """Per frame, in mm; NaN where nobody was found."""

    names: tuple[str, ...]
    mpjpe: Array  # (F,)
    pa_mpjpe: Array  # (F,)
    distance_error: Array  # (F,) of the pelvis from the camera, relative


def studio_frames(data: Path) -> Iterator[StudioFrame]:
    """The frames of the data folder: four of Human3.6M, two of MPI-INF-3DHP."""
    yield from _h36m_frames(data / "gt3d/mmpose-h36m")
    yield from _mpi_frames(data / "gt3d/mmpose-mpi3dhp")


def evaluate_studio(pipeline: Pipeline, frames: Iterable[StudioFrame]) -> StudioReport:
    """Run the pipeline on frames with truth; see the module's protocol."""
    order = [H36M_JOINTS.index(name) for name in LIMBS]
    hips = [LIMBS.index("left_hip"), LIMBS.index("right_hip")]
    rows = []
    for frame in frames:
        people = pipeline(frame.image, frame.camera, source=frame.name).people
        if not people:
            rows.append((frame.name, np.nan, np.nan, np.nan))
            continue
        limbs = max(people, key=lambda person: person.score).h36m[order]
        found, truth = limbs.astype(np.float64), frame.limbs
        centre = (found[hips].mean(0), truth[hips].mean(0))
        relative = mpjpe(found - centre[0], truth - centre[1], root=None)
        distance, true_distance = (np.linalg.norm(point) for point in centre)
        rows.append(
            (
                frame.name,
                1e3 * float(relative),
                1e3 * float(pa_mpjpe(found, truth)),
                float(distance / true_distance - 1),
            )
        )
    names, *columns = zip(*rows) if rows else ((), (), (), ())
    return StudioReport(tuple(names), *(np.array(column) for column in columns))


def _h36m_frames(folder: Path) -> Iterator[StudioFrame]:
    """Truth is in the camera's frame."""
    cameras = _cameras(folder / "cameras.pkl")
    labels = _labels(folder / "test_h36m_body3d.npz")
    order = [H36M_JOINTS.index(limb) for limb in LIMBS]
    for name, points in zip(labels["imgname"], labels["S"]):
        subject, session, _ = str(name).split("/")
        image = read_image(folder / str(name))
        camera = _camera(cameras[(subject, session.split(".")[1])], image)
        yield StudioFrame(Path(str(name)).name, image, camera, points[order, :3])


def _labels(path: Path) -> dict[str, Array]:
    with refusing(f"{path} is no readable .npz of labels"), np.load(path) as file:
        return {name: file[name] for name in ("imgname", "S")}


def _mpi_frames(folder: Path) -> Iterator[StudioFrame]:
    """Truth is in the camera's frame."""
    cameras = _cameras(folder / "cameras_train.pkl")
    labels = _labels(folder / "test_3dhp_train.npz")
    for name, points in zip(labels["imgname"], labels["S"]):
        image = read_image(folder / str(name))
        camera = _camera(cameras[str(name).rsplit("_", 1)[0]], image)
        order = [MPI17.index(limb) for limb in LIMBS]
        yield StudioFrame(str(name), image, camera, points[order, :3])


def _camera(parameters: dict[str, Array], image: Array) -> Camera:
    fx, fy = parameters["f"].ravel()
    cx, cy = parameters["c"].ravel()
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
    height, width = image.shape[:2]
    if "k" not in parameters:
        return Camera(K=K, D=np.zeros(0), model="none", width=width, height=height)
    k1, k2, k3 = parameters["k"].ravel()
    p1, p2 = parameters["p"].ravel()
    D = np.array([k1, k2, p1, p2, k3])
    return Camera(K=K, D=D, model="plumb_bob", width=width, height=height)


def _cameras(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"{path} does not exist; name the data folder with --data")
    with refusing(f"{path} is no readable .pkl of cameras"), path.open("rb") as file:
        return read_arrays(file)
