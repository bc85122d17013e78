"""evaluation.outlines: keypoints that were labelled beside their person are moved onto the outline.

In   keypoints (K, 3) [px] and weight, and the mask (H, W) bool of the same person
Out  how far they have to move sideways [px]

The keypoint file of the COCO subset was recovered from made-up results: heights are COCO's own, but
all keypoints of a person are shifted to one side together, by up to about 70 px. The person's
outline comes from another file and no network had a part in it, so it tells by how much.
"""

from __future__ import annotations

import cv2
import numpy as np

from mpmesh_core.types import Array

FARTHEST = 100  # [px]
LEAST_KEYPOINTS = 3
_SOFT = 0.025  # of the root of the mask's area: so far outside, a keypoint counts 1/e
_LEAST_SOFT = 4.0  # [px]
_SAME = 1e-3  # of the fit; shifts this near the best are as good
_LEAST_FIT = 0.3  # a keypoint on the mask counts 1


def sideways(keypoints: Array, mask: Array) -> float | None:
    """Shift of x [px] that puts most labelled keypoints on the mask.

    Of neighbouring shifts that are as good as the best it is the middle; where several stretches
    are, the one nearest to no shift counts.

    Args:
        keypoints: (K, 3) x, y [px] and weight; those without weight count nothing.
        mask: (H, W) bool, the person's pixels.

    Returns:
        The shift, or None where nobody can say: too few keypoints are labelled, none comes onto the
        mask, or larger shifts than `FARTHEST` may be as good.
    """
    labelled = keypoints[keypoints[:, 2] > 0]
    if len(labelled) < LEAST_KEYPOINTS or not mask.any():
        return None
    height, width = mask.shape
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    shifts = np.arange(-FARTHEST, FARTHEST + 1)
    x = np.rint(labelled[:, 0] + shifts[:, None]).astype(int)  # (S, K)
    y = np.rint(labelled[:, 1]).astype(int).clip(0, height - 1)
    inside = (x >= 0) & (x < width)
    away = np.where(inside, outside[y, x.clip(0, width - 1)], np.inf)
    fit = np.exp(-away / max(_SOFT * np.sqrt(mask.sum()), _LEAST_SOFT)).mean(1)
    best = shifts[fit >= fit.max() - _SAME]
    stretches = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    nearest = min(stretches, key=lambda stretch: float(np.abs(stretch).min()))
    ends = np.abs(nearest[[0, -1]])
    return None if fit.max() < _LEAST_FIT or ends.max() == FARTHEST else float(nearest.mean())
