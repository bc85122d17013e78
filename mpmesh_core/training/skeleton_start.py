"""skeleton_start: what the skeleton trainer starts from: published weights and cut-out people."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import torch
from torch import Tensor

from mpmesh_core.body import load_body
from mpmesh_core.networks.checkpoint import save_checkpoint
from mpmesh_core.networks.mobilenet import MobileNet
from mpmesh_core.networks.skeleton import SkeletonConfig, SkeletonNetwork
from mpmesh_core.training.backbone_init import start_from_tflite
from mpmesh_core.training.labels import keypoint_image_names, read_coco_subset, read_lspet
from mpmesh_core.training.scene import ShardFolder
from mpmesh_core.training.skeleton_data import write_people
from mpmesh_core.training.skeleton_sources import labelled_people, scene_people

CALIBRATION_PHOTOS = 96
CALIBRATION_SIZE = 192  # [px]
_STARTS = {
    "mobilenetv2": ("coral/tf2_mobilenet_v2_1.0_224_ptq.tflite", False),
    "blazepose": ("mediapipe-pose/pose_landmark_lite.tflite", True),
}
LSP_HELD_OUT = 200  # photos at the end, which validation takes


def skeleton_start(data: Path, output: Path, backbone: str = "blazepose", seed: int = 0) -> Path:
    """Write an untrained light skeleton network on a trained backbone.

    Batch norm is made anew from the statistics of photos, none of them a test photo; the backbone
    computes the same whatever photos these are.

    Args:
        data: data folder with teachers/ and train2d.
        output: the checkpoint.
        backbone: `mobilenetv2` (ImageNet) or `blazepose` (MediaPipe's landmark network).
        seed: of the rest of the network.
    """
    torch.manual_seed(seed)
    network = SkeletonNetwork(SkeletonConfig(backbone=backbone))
    assert isinstance(network.backbone, MobileNet)  # the default variant is the light one
    file, from_zero = _STARTS[backbone]
    photos = _calibration_photos(data / "train2d")
    start_from_tflite(network.backbone, data / "teachers" / file, photos, from_zero)
    save_checkpoint(output, network, network.config_dict())
    return output


def _calibration_photos(folder: Path) -> Tensor:
    """(96, 3, 192, 192) photos in the backbone's own range, -1..1."""
    tests = keypoint_image_names(folder / "person_keypoints_derived.json")
    photos = read_coco_subset(folder / "coco128x2", exclude=tests)
    size = (CALIBRATION_SIZE, CALIBRATION_SIZE)
    pictures = [
        torch.from_numpy(cv2.resize(photo.decode(), size, interpolation=cv2.INTER_AREA))
        for photo in islice(photos, CALIBRATION_PHOTOS)
    ]
    return torch.stack(pictures).permute(0, 3, 1, 2) / 127.5 - 1


def prepare_people(source: Path, output: Path, real: bool = False, body: str = "open") -> int:
    """Cut out the people of a folder of scenes, or of LSP-extended with its 2D labels only.

    Args:
        source: folder of scene shards, or of lspet_labels.npz and lspet_images.tar.
        output: folder for the trainer.
        real: whether the scenes' bodies are fits to photos.
        body: model that the scenes' parameters speak of.

    Returns:
        The number of people.
    """
    if (source / "lspet_labels.npz").is_file():
        return write_people(output, labelled_people(read_lspet(source, 0, -LSP_HELD_OUT)))
    return write_people(output, scene_people(ShardFolder(source), load_body(body), real))
