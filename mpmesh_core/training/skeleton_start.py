"""skeleton_start: what the skeleton trainer starts from: published weights and cut-out people."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import cv2
import torch
from torch import Tensor

from mpmesh_core.body import load_body
from mpmesh_core.errors import WeightsError
from mpmesh_core.networks.checkpoint import read_checkpoint, save_checkpoint
from mpmesh_core.networks.mobilenet import MobileNet
from mpmesh_core.networks.skeleton import SkeletonConfig, SkeletonNetwork
from mpmesh_core.training.backbone_init import deepen, start_from_tflite
from mpmesh_core.training.labels import (
    LabelledImage,
    keypoint_image_names,
    read_coco_subset,
    read_lspet,
    read_pennfudan,
)
from mpmesh_core.training.scene import ShardFolder
from mpmesh_core.training.skeleton_data import write_people
from mpmesh_core.training.skeleton_sources import (
    LEAST_SIZE,
    LEAST_VISIBLE,
    labelled_people,
    scene_people,
)

CALIBRATION_PHOTOS = 96
CALIBRATION_SIZE = 192  # [px]
_STARTS = {
    "mobilenetv2": ("mobilenetv2", "coral/tf2_mobilenet_v2_1.0_224_ptq.tflite", False),
    "blazepose": ("blazepose", "mediapipe-pose/pose_landmark_lite.tflite", True),
    "blazepose-deep": ("blazepose", "mediapipe-pose/pose_landmark_lite.tflite", True),
}
"""Backbone -> layout of the published one that it starts from, its file, whether that one takes
pictures in 0..1."""
FINE_CHANNELS = 64
LEAST_HEIGHT = 64.0  # [px] of a street photo's people
LSP_HELD_OUT = 200  # photos at the end, which validation takes


def skeleton_start(
    data: Path,
    output: Path,
    backbone: str = "blazepose-deep",
    seed: int = 0,
    older: Path | None = None,
) -> Path:
    """Write an untrained light skeleton network on a trained backbone.

    Batch norm is made anew from the statistics of photos, none of them a test photo; the backbone
    computes the same whatever photos these are.

    Args:
        data: data folder with teachers/ and train2d.
        output: the checkpoint.
        backbone: `mobilenetv2` (ImageNet), `blazepose` (MediaPipe's landmark network) or
            `blazepose-deep`.
        seed: of the rest of the network.
        older: a skeleton checkpoint on this backbone or on the published one, whose weights are
            taken wherever name and shape agree: so a network that got new parts goes on from what
            it knew.

    Raises:
        WeightsError: `older` is no such checkpoint.
    """
    torch.manual_seed(seed)
    network = SkeletonNetwork(SkeletonConfig(backbone=backbone, fine=FINE_CHANNELS))
    assert isinstance(network.backbone, MobileNet)  # the default variant is the light one
    layout, file, from_zero = _STARTS[backbone]
    published = MobileNet(layout)
    photos = _calibration_photos(data / "train2d")
    start_from_tflite(published, data / "teachers" / file, photos, from_zero)
    deepen(network.backbone, published)
    if older is not None:
        take_over(network, older)
    save_checkpoint(output, network, network.config_dict())
    return output


def take_over(network: SkeletonNetwork, older: Path) -> None:
    """Give a network an older checkpoint's tensors wherever name and shape agree.

    Raises:
        WeightsError: no skeleton checkpoint, or one on another backbone.
    """
    header, tensors = read_checkpoint(older)
    own, published = network.config.backbone, _STARTS[network.config.backbone][0]
    if header["kind"] != SkeletonNetwork.KIND or header["config"].get("backbone") not in (
        own,
        published,
    ):
        raise WeightsError(f"{older} is no skeleton network on {own}")
    state = network.state_dict()
    known = {k: v for k, v in tensors.items() if k in state and state[k].shape == v.shape}
    network.load_state_dict(state | known)


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


def prepare_people(
    source: Path,
    output: Path,
    real: bool = False,
    least_visible: float = LEAST_VISIBLE,
    least_size: float = LEAST_SIZE,
) -> int:
    """Cut out the people of a folder of scenes, or of photos with 2D labels only.

    Args:
        source: folder of scene shards; or a data folder, whose Penn-Fudan and COCO photos are
            labelled by a teacher; or that of lspet_labels.npz and lspet_images.tar.
        output: folder for the trainer.
        real: whether the scenes' bodies are fits to photos.
        least_visible, least_size: of the scenes' people; see `scene_people`.

    Returns:
        The number of people.
    """
    if (source / "lspet_labels.npz").is_file():
        return write_people(output, labelled_people(read_lspet(source, 0, -LSP_HELD_OUT)))
    if (source / "train2d").is_dir():
        return write_people(output, labelled_people(_street_photos(source)))
    people = scene_people(ShardFolder(source), load_body("open"), real, least_visible, least_size)
    return write_people(output, people)


def _street_photos(data: Path) -> Iterator[LabelledImage]:
    """Photos with boxes, none of them a test photo, with a teacher's 2D keypoints."""
    from mpmesh_core.training.teaching import Teachers  # needs the teachers' packages

    teachers, folder = Teachers(data / "teachers"), data / "train2d"
    tests = keypoint_image_names(folder / "person_keypoints_derived.json")
    photos = chain(
        read_pennfudan(folder / "pennfudan"),
        read_coco_subset(folder / "coco128x2", exclude=tests),
    )
    for photo in photos:
        yield teachers.label_2d(photo, LEAST_HEIGHT)
