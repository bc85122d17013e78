"""doubles: one person whom two boxes found, kept once.

In   boxes (N, 4) [px], best first; the people's skeletons and crop cameras
Out  (N,) bool, who stays

Boxes of two people may overlap almost wholly, so suppression of boxes has to be generous. Where one
box lies mostly in another and both skeletons lie on the same pixels, it is one person.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpmesh_core.crop import CropCameras, crop_rays
from mpmesh_core.types import Skeletons

# On photos, true doubles came as near as 0.27; a smaller overlap or a larger distance takes people
# standing behind others, whose skeletons are sometimes drawn to the one in front.
NEAREST = 0.3
LEAST_OVERLAP = 0.7
_NEAREST_DEPTH = 1e-3  # of a ray, against division by 0 for points behind the camera


def distinct(boxes: Tensor, skeletons: Skeletons, crops: CropCameras) -> Tensor:
    """People who are not the same as a better one.

    Args:
        boxes: (N, 4) [px], best first; one that is not finite is nobody's double.
        skeletons: theirs; distances count by the less certain point's confidence.
        crops: their cameras.

    Returns:
        (N,) bool.
    """
    return ~same_person(boxes, skeletons, crops).tril(-1).any(1)


def same_person(boxes: Tensor, skeletons: Skeletons, crops: CropCameras) -> Tensor:
    """(N, N) bool, which pairs are one person found twice; arguments as of `distinct`."""
    return (shared(boxes) > LEAST_OVERLAP) & (coincidence(skeletons, crops) < NEAREST)


def shared(boxes: Tensor) -> Tensor:
    """(N, N) intersection of boxes (N, 4) over the smaller one's area."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    sides = torch.minimum(high, boxes[:, 2:]) - torch.maximum(low, boxes[:, :2])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    smaller = torch.minimum(area[:, None], area)
    return sides.clamp(min=0).prod(2) / smaller.clamp(min=1e-6)


def coincidence(skeletons: Skeletons, crops: CropCameras) -> Tensor:
    """(N, N) how far apart skeletons are in the image, in units of the larger one's spread.

    Infinite where a skeleton has numbers that are not finite.
    """
    confidence = skeletons.confidence
    rays = crop_rays(skeletons.points2d, crops)  # (N, J, 3)
    plane = rays[..., :2] / rays[..., 2:].clamp(min=_NEAREST_DEPTH)
    total = confidence.sum(-1)[:, None, None]
    middle = (plane * confidence[..., None]).sum(1, keepdim=True) / total
    spread = ((plane - middle).square().sum(-1) * confidence).sum(-1) / total[:, 0, 0]
    larger = torch.maximum(spread[:, None], spread).sqrt()
    weight = torch.minimum(confidence[:, None], confidence)  # (N, N, J)
    apart = (plane[:, None] - plane).norm(dim=-1)
    mean = (apart * weight).sum(-1) / weight.sum(-1)
    return (mean / larger).nan_to_num(nan=torch.inf)
