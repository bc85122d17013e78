"""training.detection_loss: which grid point answers for which person, and what it is told.

In   RawDetections of a batch, padded people (N, G, 4) with a mask, padded ignored boxes
Out  scalar losses

Assignment is RTMDet's dynamic soft-label one (Lyu et al. 2022, sec. 3.3): a point can take a person
whose box holds it, at a cost of score error, box error and distance from the person's centre; each
person gets about as many of the cheapest points as the sum of its best overlaps. A taken point's
score is told the overlap that its box reaches, all others zero, except points whose box falls on
something ignored: they are told nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mpmesh_core.networks.detector import RawDetections

CANDIDATES = 13  # points that may share one person
OVERLAP_COST = 3.0
CENTRE_RADIUS = 3.0  # [strides] beyond which distance from the centre costs much
BOX_WEIGHT = 2.0
IGNORE_OVERLAP = 0.5
_FAR = 1e8


class Assignment(NamedTuple):
    """What each grid point is told."""

    person: Tensor  # (N, P) int64 index of its person, 0 where it has none
    taken: Tensor  # (N, P) bool
    overlap: Tensor  # (N, P) IoU with its person, 0 where it has none
    counted: Tensor  # (N, P) bool, False where the score is not trained


class DetectionLoss(NamedTuple):
    """Scalars; `total` is what is minimised."""

    total: Tensor
    score: Tensor
    box: Tensor


def detection_loss(
    raw: RawDetections, people: Tensor, people_mask: Tensor, ignored: Tensor
) -> DetectionLoss:
    """Quality focal loss on the scores, GIoU loss on the boxes of taken points.

    Args:
        raw: of the network, N images with P points.
        people: (N, G, 4) boxes [px], padded.
        people_mask: (N, G) bool, False on padding.
        ignored: (N, I, 4) boxes [px], padded with zeros.
    """
    with torch.no_grad():
        assigned = assign(raw, people, people_mask, ignored)
    probability = raw.logits.sigmoid()
    focal = (assigned.overlap - probability).abs().square()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        raw.logits, assigned.overlap, reduction="none"
    )
    norm = assigned.overlap.sum().clamp(min=1.0)
    score = (focal * entropy * assigned.counted).sum() / norm
    target = people.gather(1, assigned.person[..., None].expand(-1, -1, 4))
    box = ((1 - generalised_iou(raw.boxes, target)) * assigned.overlap).sum() / norm
    return DetectionLoss(score + BOX_WEIGHT * box, score, box)


def assign(raw: RawDetections, people: Tensor, mask: Tensor, ignored: Tensor) -> Assignment:
    """Give points to people; arguments as `detection_loss`."""
    overlap = pairwise_iou(raw.boxes, people) * mask[:, None]  # (N, P, G)
    inside = _inside(raw.points, people) & mask[:, None]
    centre = (people[..., :2] + people[..., 2:]) / 2  # (N, G, 2)
    distance = (raw.points[None, :, None] - centre[:, None]).norm(dim=-1)
    prior = 10.0 ** (distance / raw.strides[None, :, None] - CENTRE_RADIUS)
    probability = raw.logits.sigmoid()[..., None]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        raw.logits[..., None].expand_as(overlap), overlap, reduction="none"
    )
    score_cost = entropy * (overlap - probability).square()
    cost = score_cost - OVERLAP_COST * (overlap + 1e-7).log() + prior.clamp(max=1e4)
    cost = torch.where(inside, cost, _FAR)
    chosen = _cheapest(cost, overlap, inside)
    taken, person = chosen.any(dim=2), torch.where(chosen, cost, 2 * _FAR).argmin(dim=2)
    reached = overlap.gather(2, person[..., None])[..., 0] * taken
    excused = (pairwise_iou(raw.boxes, ignored) > IGNORE_OVERLAP).any(dim=2)
    person = torch.where(taken, person, 0)
    return Assignment(person, taken, reached, taken | ~excused)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes a (N, P, 4) with b (N, G, 4): (N, P, G)."""
    low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    union = _area(a)[:, :, None] + _area(b)[:, None] - overlap
    return overlap / union.clamp(min=1e-6)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of boxes (..., 4) one by one (Rezatofighi et al. 2019): (...)."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    overlap = overlap.prod(dim=-1)
    union = (_area(a) + _area(b) - overlap).clamp(min=1e-6)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    hull = hull.prod(dim=-1).clamp(min=1e-6)
    return overlap / union - (hull - union) / hull


def _cheapest(cost: Tensor, overlap: Tensor, inside: Tensor) -> Tensor:
    """(N, P, G) bool: each person's cheapest points, each point with one person at most."""
    best = min(CANDIDATES, cost.shape[1])
    counts = (overlap * inside).topk(best, dim=1).values.sum(dim=1).int().clamp(min=1)  # (N, G)
    order = cost.topk(best, dim=1, largest=False)
    within = torch.arange(best, device=cost.device)[None, :, None] < counts[:, None]
    within &= order.values < _FAR
    chosen = torch.zeros_like(inside).scatter_(1, order.indices, within)
    cheapest = torch.where(chosen, cost, 2 * _FAR)
    only = torch.nn.functional.one_hot(cheapest.argmin(dim=2), cost.shape[2]).bool()
    return chosen & only


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """(N, P, G) bool: point (P, 2) within box (N, G, 4)."""
    after = points[None, :, None] > boxes[:, None, :, :2]
    before = points[None, :, None] < boxes[:, None, :, 2:]
    return (after & before).all(dim=-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)
