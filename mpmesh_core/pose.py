"""pose: from skeletons to bodies that stand in the camera's frame, between the networks.

In   Skeletons (crop cameras' frames), crop cameras, the body model
Out  absolute points, rotations, and Bodies (camera frame)
Each function puts together `placement`, `foreshorten` and `ik` for one step of the line; the
mathematics is there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.crop import CropCameras
from mpmesh_core.foreshorten import foreshorten, relative_size
from mpmesh_core.ik import IKResult, solve_ik
from mpmesh_core.placement import (
    FIELD_OF_VIEW,
    PlacementNoise,
    fit_residual,
    locate,
    mix_absolute,
    place,
)
from mpmesh_core.types import Bodies, Skeletons

IMAGE_TRUST = 3.0  # points of at least this part (1 / 3) of full confidence stand where seen
RAMP = 16 / 256  # of the crop's side: so far from the field of view's border points count wholly
# Networks that are unsure say small skeletons, in space and in the picture: a body of full size
# would be put too far away. This part of the difference (in logarithms) leaves held-out synthetic
# people 1 % too far in the mean, not 6 %.
SHRINKS = 0.4
# Of the light network. A person's size is what one camera can't see; `common_sigma` was chosen so
# that 68 % of held-out synthetic people stand within the ellipsoid that claims it, see
# benchmarks/placement.py.
NOISE = PlacementNoise(pixel_sigma=4.0, joint_sigma=0.04, scale_sigma=0.06, common_sigma=0.06)


def absolute_points(skeletons: Skeletons, crops: CropCameras) -> Tensor:
    """(N, 29, 3) points [m] in the crop cameras: where the skeletons stand."""
    relative, pixels = skeletons.points3d, skeletons.points2d
    root = locate(relative, pixels, point_weights(skeletons, crops.size), crops.K, crops.size)
    share = (IMAGE_TRUST * skeletons.confidence).clamp(0, 1) * _off_border(pixels, crops.size)
    return mix_absolute(relative, pixels, root, crops.K, crops.size, mix=share)


def solve_pose(points: Tensor, skeletons: Skeletons, body: BodyModel) -> IKResult:
    """Inverse kinematics towards `absolute_points` that have the body's bone lengths."""
    rest = body.rest_points(skeletons.betas)
    return solve_ik(foreshorten(points, rest, skeletons.confidence), rest, skeletons.twist)


def point_weights(skeletons: Skeletons, size: int = 256) -> Tensor:
    """(N, 29) weights for least squares: the square, since errors grow as 1 / confidence."""
    return skeletons.confidence.square() * _off_border(skeletons.points2d, size)


def _off_border(pixels: Tensor, size: int) -> Tensor:
    """(N, 29) 0 where points (N, 29, 2) [crop px] leave the field of view, 1 from `RAMP` on.

    Placement drops points there. Without this, somebody cut off would jump, by metres at times,
    when a point comes a tenth of a pixel nearer to the border.
    """
    off = (pixels.detach() - (size - 1) / 2).abs().amax(-1) / size
    return ((FIELD_OF_VIEW - off) / RAMP).clamp(0, 1)


def stand(
    rotations: Tensor,
    betas: Tensor,
    skeletons: Skeletons,
    crops: CropCameras,
    body: BodyModel,
    focal: float,
) -> tuple[Bodies, Tensor]:
    """Stand bodies where their own joints agree best with the image, in the camera's frame.

    Args:
        rotations, betas, skeletons, crops, body: as everywhere on the line.
        focal: of the picture [px], in which the residual is told.

    Returns:
        The bodies, and (N,) bool: who could be placed.
    """
    zero = torch.zeros_like(betas[:, :3])
    posed = body(rotations, betas, zero, vertices=False).points
    relative = posed - posed[:, :1]
    seen = skeletons.points2d, point_weights(skeletons, crops.size), crops.K
    size = relative_size(skeletons.points3d, posed, skeletons.confidence)
    placement = place(relative * size**SHRINKS, *seen, NOISE, crops.size)
    residual = focal * fit_residual(relative + placement.root[:, None], *seen, crops.size)
    to_camera = crops.R_crop_cam.transpose(-1, -2)
    in_camera = torch.cat([to_camera @ rotations[:, 0], rotations[:, 1:].flatten(1, 2)], dim=1)
    rotations = in_camera.unflatten(1, (24, 3))
    pelvis = (to_camera @ placement.root[..., None])[..., 0]
    covariance = to_camera @ placement.covariance @ crops.R_crop_cam
    transl = pelvis - body.rest_joints(betas)[:, 0]
    return Bodies(rotations, betas, transl, covariance, residual), placement.ok
