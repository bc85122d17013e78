"""doubles: one person whom two boxes found, kept once.

In   skeletons (N), best detection first, and their crop cameras
Out  (K,) indices of the people who stay, in order

Boxes of two people may overlap almost wholly, so suppression of boxes has to be generous; two
skeletons on the same pixels are one person.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpmesh_core.crop import CropCameras
from mpmesh_core.types import Skeletons

NEAREST = 0.35  # of a skeleton's spread; TODO calibrate
_NEAREST_DEPTH = 1e-3  # of a ray, against division by 0 for points behind the camera


def distinct(skeletons: Skeletons, crops: CropCameras, nearest: float = NEAREST) -> Tensor:
    """People whose skeletons do not coincide in the image with that of a better one.

    Args:
        skeletons: of N people, best first; distances count by the less certain point's confidence.
        crops: their cameras.
        nearest: mean distance of two skeletons below which they are one, in units of the spread
            (root mean square distance from the middle) of the larger one.

    Returns:
        (K,) int64 indices, ascending, on the CPU.
    """
    distance = coincidence(skeletons, crops)
    stays = torch.ones(len(crops), dtype=torch.bool)
    for person in range(len(crops)):
        stays[person] = not bool((distance[person, :person][stays[:person]] < nearest).any())
    return stays.nonzero()[:, 0]


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
