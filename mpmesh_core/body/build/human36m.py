"""human36m: the 17 joints of Human3.6M on the open body.

In   a body without keypoints, where Human3.6M's joints lie relative to SMPL's
Out  regressor (17, W), non-negative, fitted to posed and shaped bodies
Human3.6M's joints are not SMPL's: hips lie wider and higher, the head point is inside the skull.
"""

from __future__ import annotations

import numpy as np
import roma
import torch
from torch import Tensor

from mpmesh_core.body.build.regressors import convex_regressor, symmetric
from mpmesh_core.body.model import BodyModel, BodyOutput
from mpmesh_core.joints import H36M_FLIP, H36M_JOINTS
from mpmesh_core.types import Array

# SMPL joints that carry the Human3.6M joint in equal parts, and its place from the first one in
# its rest axes [m]; left side and midline. They give a mean body Human3.6M's bone lengths
# (pelvis-hip 134, thigh and shin 443, spine 236 and 254, neck-nose 116, head 115, shoulder 151,
# upper arm 277, forearm 248 mm); the hips follow the thigh by half, so that it keeps its length.
PLACES: dict[str, tuple[tuple[int, ...], tuple[float, float, float]]] = {
    "left_hip": ((0, 1), (0.134, -0.055, -0.010)),
    "left_knee": ((4,), (-0.020, 0.0, 0.010)),
    "left_ankle": ((7,), (-0.010, -0.005, -0.010)),
    "spine": ((3,), (0.0, 0.080, 0.016)),
    "thorax": ((9,), (0.0, 0.152, -0.012)),
    "nose": ((15,), (0.0, -0.027, 0.035)),
    "head_top": ((15,), (0.0, 0.068, -0.026)),
    "left_shoulder": ((13,), (0.107, 0.066, -0.019)),
    "left_elbow": ((18,), (-0.013, 0.010, -0.003)),
    "left_wrist": ((20,), (0.004, -0.010, 0.004)),
}
SAMPLES = 48
POSE_SPREAD = 0.4  # [rad] per axis and joint
NEAR = 0.16  # [m]
CANDIDATES = 300


def human36m_regressor(body: BodyModel, mirror: Array, seed: int) -> Array:
    """Fit the regressor (17, W) of a body (double precision, without keypoints)."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(SAMPLES, 24 * 3 + 10, generator=generator, dtype=torch.float64)
    draws[0] = 0  # the mean body at rest
    rotations = roma.rotvec_to_rotmat(POSE_SPREAD * draws[:, :72].unflatten(1, (24, 3)))
    posed = body(rotations, draws[:, 72:], torch.zeros_like(draws[:, :3]))
    rest = body.rest_joints(draws[:, 72:])
    vertices = posed.vertices.numpy()
    rows = np.zeros((len(H36M_JOINTS), vertices.shape[1]))
    for name, (carriers, place) in PLACES.items():
        targets = _carried(posed, rest, carriers, torch.tensor(place, dtype=torch.float64))
        distance = np.linalg.norm(vertices[0] - targets[0], axis=1)
        near = np.flatnonzero(distance < max(NEAR, np.sort(distance)[20]))
        near = near[:: max(1, len(near) // CANDIDATES)]
        joint = H36M_JOINTS.index(name)
        rows[joint] = convex_regressor(vertices, targets, near)
        rows[H36M_FLIP[joint]] = rows[joint][mirror]
    hips = [H36M_JOINTS.index(f"{side}_hip") for side in ("left", "right")]
    rows[H36M_JOINTS.index("pelvis")] = rows[hips].mean(0)
    return symmetric(rows, H36M_FLIP, mirror)


def _carried(posed: BodyOutput, rest: Tensor, carriers: tuple[int, ...], place: Tensor) -> Array:
    """Mean (S, 3) of where each carrier takes a point that lies at `place` from the first one."""
    size = rest.norm(dim=(-2, -1))
    offset = place * (size / size[0]).unsqueeze(-1)  # (S, 3), larger on larger people
    found = []
    for joint in carriers:
        arm = rest[:, carriers[0]] + offset - rest[:, joint]
        turned = (posed.global_rotations[:, joint] @ arm.unsqueeze(-1)).squeeze(-1)
        found.append(posed.joints[:, joint] + turned)
    return torch.stack(found).mean(0).numpy()
