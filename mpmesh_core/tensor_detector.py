"""tensor_detector: detect, where the picture already lies on the network's device.

In   picture (H, W, 3) uint8 RGB as a tensor
Out  Found: a fixed number of places for people, the best first, the unused ones NaN

The same steps as `detect`, for the shipped network: letterbox, network, threshold, suppression,
back to the picture. Every shape is known beforehand and nothing waits for the device, so a CUDA
graph can hold it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mpmesh_core.constants import constant
from mpmesh_core.detect import (
    AREA_BELOW,
    DEFAULT_NMS_IOU,
    DEFAULT_SIZE,
    MAX_CANDIDATES,
    PADDING,
    STRIDE,
    check_image,
    nan_scores,
)
from mpmesh_core.engines.base import Engine
from mpmesh_core.types import Array, Detections

SUPPRESSION_PASSES = 12  # exact where no chain of boxes that each drop the next is longer


@dataclass(frozen=True)
class Found:
    """People of one picture in P places."""

    boxes: Tensor  # (P, 4) float32 x1, y1, x2, y2 [px], best first, then NaN
    scores: Tensor  # (P,) float32 in 0..1, 0 where there is nobody
    people: Tensor  # () float32, how many of the places are taken
    broken: Tensor  # () float32, not 0 where the network returned NaN


class TensorDetector:
    """The shipped detector network with everything around it on the network's device."""

    def __init__(self, engine: Engine, score_threshold: float, max_people: int = 32) -> None:
        """Take an engine with outputs `scores` and `boxes`.

        Args:
            engine: the shipped network.
            score_threshold: detections below it are dropped.
            max_people: P, places for people.
        """
        self.engine = engine
        self.score_threshold, self.max_people = score_threshold, max_people

    def detect(self, image: Array) -> Detections:
        """As `Detector.detect`: the people of one image (H, W, 3) uint8 RGB.

        Raises:
            ShapeError: not such an image.
            NumericalError: the network returned NaN.
        """
        check_image(image)
        found = self.find(torch.from_numpy(image).to(self.engine.device))
        if bool(found.broken):
            raise nan_scores("mpmesh", self.engine.backend)
        people = int(found.people)
        return Detections(found.boxes[:people].cpu().numpy(), found.scores[:people].cpu().numpy())

    def find(self, picture: Tensor) -> Found:
        """The people of a picture (H, W, 3) uint8 on the engine's device."""
        height, width = picture.shape[:2]
        canvas, scale = letterboxed(picture)
        outputs = self.engine.run({"image": canvas})
        scores, boxes = outputs["scores"][0], outputs["boxes"][0]
        unread = ~scores.isfinite().all()
        scores, order = scores.topk(min(MAX_CANDIDATES, len(scores)))
        boxes = boxes.index_select(0, order)
        likely = scores >= max(self.score_threshold, 1e-6)
        usable = likely & boxes.isfinite().all(1)
        broken = (unread | (likely.any() & ~usable.any())).float()
        usable = usable & (boxes[:, 2:] > boxes[:, :2]).all(1)
        kept = torch.where(suppressed(boxes, usable, DEFAULT_NMS_IOU), scores, 0.0)
        scores, order = kept.topk(min(self.max_people, len(kept)))
        missing = self.max_people - len(scores)
        scores = F.pad(scores, (0, missing))
        boxes = F.pad(boxes.index_select(0, order), (0, 0, 0, missing))
        limit = constant((width - 1.0, height - 1.0) * 2, boxes.dtype, boxes.device)
        boxes = torch.minimum((boxes / scale - 0.5).clamp(min=0), limit)
        taken = scores > 0
        return Found(
            torch.where(taken[:, None], boxes, torch.nan), scores, taken.sum().float(), broken
        )


def letterboxed(picture: Tensor, size: int = DEFAULT_SIZE) -> tuple[Tensor, Tensor]:
    """`detect.letterbox` on the picture's device.

    Args:
        picture: (H, W, 3) uint8.
        size: longer side of the canvas [px].

    Returns:
        Canvas (1, 3, h, w) float32 of whole numbers, and canvas px per picture px (4,) as x, y,
        x, y.
    """
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    area = scale < AREA_BELOW
    shrunk = _resampled(_resampled(picture, 0, new_h, area), 1, new_w, area).round()
    shrunk = shrunk.permute(2, 0, 1)
    pad = (0, -new_w % STRIDE, 0, -new_h % STRIDE)
    scales = (new_w / width, new_h / height) * 2
    canvas = F.pad(shrunk, pad, value=float(PADDING))[None]
    return canvas, constant(scales, torch.float32, picture.device)


def suppressed(boxes: Tensor, usable: Tensor, iou: float) -> Tensor:
    """Greedy non-maximum suppression in a fixed number of passes.

    A box goes if a better one that stays overlaps it. Each pass asks that anew of all boxes at
    once, and is right about at least one more box of every chain than the pass before.

    Args:
        boxes: (N, 4), best first.
        usable: (N,) bool; the others drop nobody and go.
        iou: a box that overlaps a better one by more than this is dropped.

    Returns:
        (N,) bool, who stays.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    sides = torch.minimum(high, boxes[:, 2:]) - torch.maximum(low, boxes[:, :2])
    overlap = sides.clamp(min=0).prod(2)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    doubles = overlap > iou * (area[:, None] + area - overlap)  # row better than column
    drops = (doubles & usable[:, None]).triu(1).float().T
    everybody = torch.ones_like(area)
    stays = usable.float()
    for _ in range(SUPPRESSION_PASSES):
        stays = torch.addmv(everybody, drops, stays, alpha=-1).relu_()  # 1 where nobody drops it
    return (stays > 0) & usable


def _resampled(image: Tensor, axis: int, after: int, area: bool) -> Tensor:
    """An image (H, W, 3) with `after` places along an axis, float32, as OpenCV resamples.

    Weights are made anew for every picture: kept ones of ever new sizes would fill the memory.
    """
    before = image.shape[axis]
    target = torch.arange(after, device=image.device)
    if area:  # how much of each pixel lies under the target's; in units of 1 / after
        low = target * before
        first, whole, taps = low // after, before, -(-before // after) + 1
    else:  # in units of 1 / (2 after), from the first pixel's centre
        whole = 2 * after
        at = ((2 * target + 1) * before - after).clamp(0, (before - 1) * whole)
        first, taps = at // whole, 2
    total = torch.zeros((), device=image.device)
    for tap in range(taps):
        source = first + tap
        if area:
            share = torch.minimum(source * after + after, low + before)
            share = (share - torch.maximum(source * after, low)).clamp(min=0)
        else:
            share = whole - (source * whole - at).abs()
        weight = (share.float() / whole).view(-1, *[1] * (2 - axis))
        values = image.index_select(axis, source.clamp(max=before - 1)).float()
        total = total + values * weight
    return total
