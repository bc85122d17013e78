"""doubles: one person whom two boxes found, kept once.

In   detections (N), best first; their skeletons and crop cameras
Out  (K,) indices of the people who stay, in order

Boxes of two people may overlap almost wholly, so suppression of boxes has to be generous. Where one
box lies mostly in another and both skeletons lie on the same pixels, it is one person.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.crop import CropCameras
from mpmesh_core.types import Array, Detections, Skeletons

# On photos, true doubles came as near as 0.27; a smaller overlap or a larger distance takes people
# standing behind others, whose skeletons are sometimes drawn to the one in front.
NEAREST = 0.3
LEAST_OVERLAP = 0.7
_NEAREST_DEPTH = 1e-3  # of a ray, against division by 0 for points behind the camera


def distinct(detections: Detections, skeletons: Skeletons, crops: CropCameras) -> Tensor:
    """People who are not the same as a better one.

    Args:
        detections: N people, best first.
        skeletons: theirs; distances count by the less certain point's confidence.
        crops: their cameras.

    Returns:
        (K,) int64 indices, ascending, on the CPU.
    """
    same = torch.from_numpy(shared(detections.boxes) > LEAST_OVERLAP).tril(-1)
    if same.any():  # skeletons are only asked where boxes leave a doubt
        same &= coincidence(skeletons, crops) < NEAREST
    return (~same.any(1)).nonzero()[:, 0]


def shared(boxes: Array) -> Array:
    """(N, N) intersection of boxes (N, 4) over the smaller one's area."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    sides = np.minimum(high, boxes[:, 2:]) - np.maximum(low, boxes[:, :2])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    smaller = np.minimum(area[:, None], area)
    return np.prod(sides.clip(min=0), axis=2) / smaller.clip(min=1e-6)


def coincidence(skeletons: Skeletons, crops: CropCameras) -> Tensor:
    """(N, N) how far apart skeletons are in the image, in units of the larger one's spread.

    On the CPU; infinite where a skeleton has numbers that are not finite.
    """
    confidence = skeletons.confidence
    pixels = torch.cat((skeletons.points2d, torch.ones_like(confidence)[..., None]), -1)
    rays = pixels @ torch.linalg.inv(crops.K).mT @ crops.R_crop_cam  # (N, J, 3) in the camera
    plane = rays[..., :2] / rays[..., 2:].clamp(min=_NEAREST_DEPTH)
    total = confidence.sum(-1)[:, None, None]
    middle = (plane * confidence[..., None]).sum(1, keepdim=True) / total
    spread = ((plane - middle).square().sum(-1) * confidence).sum(-1) / total[:, 0, 0]
    larger = torch.maximum(spread[:, None], spread).sqrt()
    weight = torch.minimum(confidence[:, None], confidence)  # (N, N, J)
    apart = (plane[:, None] - plane).norm(dim=-1)
    mean = (apart * weight).sum(-1) / weight.sum(-1)
    return (mean / larger).nan_to_num(nan=torch.inf).cpu()
