"""posed: the line from the skeleton network's outputs to a posed body, with gradients.

In   outputs of the skeleton network, crop cameras' intrinsics, the body model
Out  IKResult in the crop cameras' frames, and losses of it

Training through inverse kinematics asks for what the line gives out in the end: a body with bones
of its own length that stands in the picture, not points alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.crop import CropCameras
from mpmesh_core.foreshorten import relative_size
from mpmesh_core.ik import IKResult
from mpmesh_core.placement import locate
from mpmesh_core.pose import SHRINKS, absolute_points, point_weights, solve_pose
from mpmesh_core.training.equations import points_loss, weighted_mean
from mpmesh_core.training.losses import CROP_METRES, projected
from mpmesh_core.training.skeleton_losses import LossWeights
from mpmesh_core.types import Skeletons

_FARTHEST_OFF = 0.5  # [m]; a point that is off by more in the picture pulls no more


def pose_body(found: dict[str, Tensor], K: Tensor, body: BodyModel, size: int) -> IKResult:
    """What placement and inverse kinematics make of N people.

    Args:
        found: outputs of the skeleton network.
        K: (N, 3, 3) of the crop cameras.
        body: whose bone lengths count.
        size: side of the crops [px].
    """
    with torch.autocast(K.device.type, enabled=False):  # half precision loses centimetres
        skeletons, crops = _on_the_line(found, K, size)
        return solve_pose(absolute_points(skeletons, crops), skeletons, body)


def posed_losses(
    found: dict[str, Tensor],
    labels: dict[str, Tensor],
    body: BodyModel,
    weights: LossWeights,
    size: int,
) -> dict[str, Tensor]:
    """Both terms of eq. 13 for bodies before the refiner: in space, and where the line stands them.

    Confidence gets no gradient: it says how far points are off, see `likelihood_loss`.

    Args:
        found: outputs of the skeleton network.
        labels: a batch as `PeopleStore.crop` describes it.
        weights: of the two terms.
        body, size: as for `pose_body`.

    Returns:
        `posed`, pelvis on pelvis [m], and `standing`, in the picture [m at the crop's scale], both
        weighted; nothing where neither has a weight.
    """
    if not (weights.posed or weights.standing):
        return {}
    found = found | {"confidence": found["confidence"].detach()}
    points = pose_body(found, labels["K"], body, size).points
    points, truth = points - points[:, :1], labels["points3d"]
    pelvis = truth[:, :1]
    known = torch.minimum(truth[..., 3], pelvis[..., 3])
    pixels = _standing(points, found, labels["K"], size)
    away = (pixels - labels["points2d"][..., :2]).abs().sum(-1) * (CROP_METRES / size)
    return {
        "posed": weights.posed * points_loss(points, truth[..., :3] - pelvis[..., :3], known),
        "standing": weights.standing
        * weighted_mean(away.clamp(max=_FARTHEST_OFF), labels["points2d"][..., 2]),
    }


def _on_the_line(found: dict[str, Tensor], K: Tensor, size: int) -> tuple[Skeletons, CropCameras]:
    """Outputs and cameras as the line's steps take them; maps are left out where there are none."""
    nothing = K.new_zeros(len(K), 0, 8, 8)
    skeletons = Skeletons(**({"features": nothing, "heatmaps": nothing} | found))
    straight = torch.eye(3, device=K.device).expand(len(K), 3, 3)
    return skeletons, CropCameras(K, straight, size, torch.ones(len(K), device=K.device) > 0)


def _standing(points: Tensor, found: dict[str, Tensor], K: Tensor, size: int) -> Tensor:
    """Crop pixels (N, 29, 2) of posed points (N, 29, 3), pelvis-relative, as `stand` has them."""
    with torch.autocast(K.device.type, enabled=False):
        skeletons, crops = _on_the_line(found, K, size)
        scale = relative_size(skeletons.points3d, points, skeletons.confidence) ** SHRINKS
        weight = point_weights(skeletons, crops.size)
        root = locate(points * scale, skeletons.points2d, weight, K, size)
        return projected(points + root[:, None], K)
