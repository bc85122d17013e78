"""hidden_look: people whom the network took for somebody in front of them are read once more.

In   boxes, skeletons and crop cameras of the people, the skeleton engine, pictures of crop cameras
Out  skeletons

Where two people overlap, the crop of the one behind shows the one in front too, and more clearly:
the network may read that one in both. So where boxes overlap, two skeletons lie on about the same
pixels, and one of them is much less sure, that one is read again with the other's body painted over
in the colours around it. Two boxes of one person show nobody then, and the first reading stays.
It is a part of thorough looks; on videos it gained nothing. Beside `doubles` and the refiner it is
the only place where one person depends on others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mpmesh_core.constants import constant, indices
from mpmesh_core.crop import CropCameras, crop_rays, project_to_crop
from mpmesh_core.doubles import coincidence, same_person, shared
from mpmesh_core.engines.base import Engine
from mpmesh_core.joints import POINT_PARENTS, POINTS
from mpmesh_core.mirror import read_crops
from mpmesh_core.second_look import Pictures, merged, rows_of
from mpmesh_core.types import Skeletons

# Chosen on 2117 held-out rendered people, of whom 44 are read again: their joints are off in the
# picture by 16 % of their height instead of 25 %; 32 are nearer and 5 farther.
NEAR = 0.6  # of the skeletons' spread; two people's skeletons are seldom as near as that
LEAST_OVERLAP = 0.4  # of the smaller box
LESS_SURE = 0.7  # mean confidence, as a part of the other's
STILL_SURE = 0.7  # as a part of what it was, which spoke of the other's clearer body
_BLOCK = 4  # [px] of a crop; bodies are painted over in squares of this side
_AROUND = 11  # [blocks] side of the square from which the colours come
_LEAST_TORSO = 8.0  # [px]
_TRUNK = ("spine1", "spine2", "spine3", "neck", "left_hip", "right_hip")  # wide bones' lower ends
# Half the width of what is painted over along each point's bone, in lengths of the torso.
_RADIUS = tuple(0.35 if name == "head" else 0.25 if name in _TRUNK else 0.11 for name in POINTS[1:])
_SHOULDERS = (POINTS.index("left_shoulder"), POINTS.index("right_shoulder"))
_HIPS = (POINTS.index("left_hip"), POINTS.index("right_hip"))


def look_behind(
    engine: Engine,
    boxes: Tensor,
    crops: CropCameras,
    skeletons: Skeletons,
    pictures: Pictures,
    everybody: bool = False,
) -> Skeletons:
    """Read hidden people again.

    Args:
        engine: the skeleton network.
        boxes: (N, 4) [px], best first.
        crops: N crop cameras.
        skeletons: what was read there.
        pictures: what crop cameras see, (K, 3, S, S) float32, RGB 0..255.
        everybody: read all again, so that shapes do not depend on the people.

    Returns:
        Skeletons of N people in the same cameras. A new reading counts if it is finite, hardly less
        sure, and makes nobody the double of another.
    """
    if not len(boxes):
        return skeletons
    front, hidden = in_front(boxes, skeletons, crops)
    rows = rows_of(hidden, everybody)
    if not len(rows):
        return skeletons
    own = crops.take(rows)
    bodies = project_to_crop(crop_rays(skeletons.points2d, crops)[front[rows]], own)
    again = read_crops(engine, paint_over(pictures(own), bodies), mirror=True)
    sure = again.confidence.mean(1) > STILL_SURE * skeletons.confidence[rows].mean(1)
    finite = (again.points3d.sum(-1) + again.points2d.sum(-1)).isfinite().all(1)
    after = merged(skeletons, again, rows, hidden[rows] & sure & finite)
    doubled = same_person(boxes, after, crops) & ~same_person(boxes, skeletons, crops)
    everyone = torch.arange(len(boxes), device=boxes.device)
    return merged(after, skeletons, everyone, doubled.any(1))


def in_front(boxes: Tensor, skeletons: Skeletons, crops: CropCameras) -> tuple[Tensor, Tensor]:
    """Whose body each person's skeleton may be.

    Args:
        boxes: (N, 4) [px].
        skeletons, crops: of the same people.

    Returns:
        (N,) index of the person in front, and (N,) bool, whether there is one.
    """
    apart = coincidence(skeletons, crops)
    sure = skeletons.confidence.mean(1)
    candidate = (apart < NEAR) & (shared(boxes) > LEAST_OVERLAP)
    candidate &= sure[:, None] < LESS_SURE * sure  # so nobody stands in front of themselves
    return apart.where(candidate, torch.inf).argmin(1), candidate.any(1)


def paint_over(pictures: Tensor, points: Tensor) -> Tensor:
    """Crops without a body: its place takes the mean colour of what is around.

    Args:
        pictures: (N, 3, S, S) float32.
        points: (N, 29, 2) [px] of the body to leave out, one a crop.

    Returns:
        (N, 3, S, S).
    """
    size = pictures.shape[-1]
    cover = _cover(points, size).to(pictures.dtype)
    seen = 1 - cover
    coarse = F.interpolate(pictures, cover.shape[-2:], mode="area")
    sums = F.avg_pool2d(torch.cat((coarse * seen, seen), 1), _AROUND, 1, _AROUND // 2)
    mean = (coarse * seen).sum((-2, -1), keepdim=True) / seen.sum((-2, -1), keepdim=True).clamp(1)
    around = torch.where(sums[:, 3:] > 1e-3, sums[:, :3] / sums[:, 3:].clamp(min=1e-3), mean)
    around = F.interpolate(around, (size, size), mode="bilinear", align_corners=False)
    return torch.where(F.interpolate(cover, (size, size)) > 0.5, around, pictures)


def _cover(points: Tensor, size: int) -> Tensor:
    """(N, 1, B, B) bool, the blocks on which a body (N, 29, 2) [px] lies."""
    blocks = size // _BLOCK
    middle = (torch.arange(blocks, device=points.device) + 0.5) * (size / blocks) - 0.5
    pixels = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), -1).to(points)
    shoulders, hips = (
        points.index_select(1, indices(pair, points.device)).mean(1) for pair in (_SHOULDERS, _HIPS)
    )
    torso = (shoulders - hips).norm(dim=-1).clamp(min=_LEAST_TORSO)
    radius = torso[:, None] * constant(_RADIUS, points.dtype, points.device)  # (N, 28)
    upper, lower = points.index_select(1, indices(POINT_PARENTS[1:], points.device)), points[:, 1:]
    bone = (lower - upper)[:, :, None, None]  # (N, 28, 1, 1, 2)
    away = pixels - upper[:, :, None, None]  # (N, 28, B, B, 2)
    share = (away * bone).sum(-1, keepdim=True) / bone.square().sum(-1, keepdim=True).clamp(min=1)
    distance = (away - share.clamp(0, 1) * bone).norm(dim=-1)
    return (distance < radius[:, :, None, None]).any(1, keepdim=True)
