"""labels: readers of photos with boxes, masks and keypoints; see `labels.base` for what they yield.

Conventions of keypoints by name: `lsp14`, `coco17`, `mediapipe33` (third column = weight 0..1).
"""

from mpmesh_core.training.labels.base import LabelledImage, PersonLabel
from mpmesh_core.training.labels.coco import (
    keypoint_image_names,
    read_coco_keypoints,
    read_coco_subset,
)
from mpmesh_core.training.labels.lspet import read_lspet
from mpmesh_core.training.labels.pennfudan import read_pennfudan

__all__ = [
    "LabelledImage",
    "PersonLabel",
    "keypoint_image_names",
    "read_coco_keypoints",
    "read_coco_subset",
    "read_lspet",
    "read_pennfudan",
]
