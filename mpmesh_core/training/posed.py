"""posed: the line from the skeleton network's outputs to a posed body, with gradients.

In   outputs of the skeleton network, crop cameras' intrinsics, the body model
Out  IKResult in the crop cameras' frames

Training through inverse kinematics asks for what the line gives out in the end: a body with bones
of its own length, not points alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.crop import CropCameras
from mpmesh_core.ik import IKResult
from mpmesh_core.pose import absolute_points, solve_pose
from mpmesh_core.training.equations import relative_loss
from mpmesh_core.types import Skeletons


def pose_body(found: dict[str, Tensor], K: Tensor, body: BodyModel, size: int) -> IKResult:
    """What placement and inverse kinematics make of N people.

    Args:
        found: outputs of the skeleton network.
        K: (N, 3, 3) of the crop cameras.
        body: whose bone lengths count.
        size: side of the crops [px].
    """
    with torch.autocast(K.device.type, enabled=False):  # half precision loses centimetres
        skeletons = Skeletons(**found)
        straight = torch.eye(3, device=K.device).expand(len(K), 3, 3)
        crops = CropCameras(K, straight, size, torch.ones(len(K), device=K.device) > 0)
        return solve_pose(absolute_points(skeletons, crops), skeletons, body)


def posed_loss(
    found: dict[str, Tensor], labels: dict[str, Tensor], body: BodyModel, size: int
) -> Tensor:
    """Second term of eq. 7, of the posed body's points instead of the skeleton's.

    Confidence gets no gradient from it: it says how far points are off, see `likelihood_loss`.

    Args:
        found: outputs of the skeleton network.
        labels: a batch as `PeopleStore.crop` describes it.
        body, size: as for `pose_body`.
    """
    sure = found | {"confidence": found["confidence"].detach()}
    points, truth = pose_body(sure, labels["K"], body, size).points, labels["points3d"]
    return relative_loss(points, truth[..., :3], truth[..., 3])
