"""People and results that tests of outputs and drawing share: made up, or posed open bodies."""

from __future__ import annotations

import numpy as np
import roma
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.types import Array, FrameResult, Person


def random_person(
    rng: np.random.Generator, track_id: int = -1, vertices: Array | None = None
) -> Person:
    """Numbers of the right shapes that belong to no body."""
    root = rng.normal(size=(3, 3))
    return Person(
        score=float(rng.uniform()),
        bbox=rng.uniform(0, 600, 4),
        global_orient=rng.normal(size=3),
        body_pose=rng.normal(size=69),
        betas=rng.normal(size=10),
        transl=rng.normal(size=3),
        joints=rng.normal(size=(24, 3)),
        joints_2d=rng.uniform(0, 600, (24, 2)),
        joint_confidence=rng.uniform(size=24),
        coco_2d=rng.uniform(0, 600, (17, 2)),
        h36m=rng.normal(size=(17, 3)),
        position=rng.normal(size=3),
        position_covariance=root @ root.T,
        vertices=vertices,
        track_id=track_id,
        state="untracked" if track_id < 0 else "tracked",
        velocity=None if track_id < 0 else rng.normal(size=3),
    )


def random_result(rng: np.random.Generator, frame: int = 0, people: int = 2) -> FrameResult:
    """A frame of people whose numbers belong to no body."""
    K = np.array([[500.0 + rng.uniform(), 0, 320], [0, 500, 240], [0, 0, 1]])
    persons = [random_person(rng, track_id) for track_id in range(people)]
    return FrameResult(
        frame, frame / 30, f"clip/{frame}.jpg", 640, 480, K, rng.normal(size=5), persons
    )


def standing_person(
    body: BodyModel, camera: Camera, x: float, z: float, track_id: int = 0, state: str = "tracked"
) -> Person:
    """A body in its rest pose that faces the camera, its pelvis at (x, 0, z) [m]."""
    upright = roma.rotvec_to_rotmat(torch.tensor([torch.pi, 0.0, 0.0]))
    rotations = torch.eye(3).repeat(24, 1, 1)
    rotations[0] = upright
    betas = torch.zeros(10)
    transl = torch.tensor([x, 0.0, z]) - body.rest_joints(betas)[0]
    posed = body(rotations, betas, transl)
    joints = posed.joints.numpy()
    keypoints = {
        name: body.keypoints(rotations, betas, transl, name).numpy()
        for name in ("coco17", "h36m17")
    }
    pixels = camera.project(posed.vertices.numpy())
    return Person(
        score=0.9,
        bbox=np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]),
        global_orient=roma.rotmat_to_rotvec(upright).numpy(),
        body_pose=np.zeros(69),
        betas=np.zeros(10),
        transl=transl.numpy(),
        joints=joints,
        joints_2d=camera.project(joints),
        joint_confidence=np.ones(24),
        coco_2d=camera.project(keypoints["coco17"]),
        h36m=keypoints["h36m17"],
        position=joints[0],
        position_covariance=np.diag([0.02, 0.02, 0.1]) ** 2,
        track_id=track_id,
        state=state,
        velocity=np.array([0.5, 0.0, -0.5]),
    )


def result_of(camera: Camera, people: list[Person]) -> FrameResult:
    """One frame with these people."""
    return FrameResult(0, 0.0, "room.jpg", camera.width, camera.height, camera.K, camera.D, people)
