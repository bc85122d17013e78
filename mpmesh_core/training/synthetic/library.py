"""library: everything that scenes are drawn from, loaded once a process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.errors import MissingFileError
from mpmesh_core.training.mocap import Clip, read_cmu, read_deepmimic, read_makehuman
from mpmesh_core.training.synthetic.appearance import Outfit, Wardrobe
from mpmesh_core.training.synthetic.backgrounds import load_picture
from mpmesh_core.training.synthetic.config import SyntheticConfig
from mpmesh_core.training.synthetic.effects import make_grain
from mpmesh_core.training.synthetic.poses import PoseBank
from mpmesh_core.training.synthetic.shapes import ShapeBank
from mpmesh_core.training.synthetic.skinning import FastBody
from mpmesh_core.training.synthetic.textures import Textures, make_textures
from mpmesh_core.training.synthetic.things import CutOut, load_cut_outs

Array = np.ndarray
Random = np.random.Generator

OUTFITS = 400  # outfits a process keeps; dressing costs more than drawing
HELD_OUT_CLIPS = ("/test/", "dance_b", "spinkick", "zombie", "standing03", "fight04")
CLOSE_UPS = frozenset(
    {4, 30, 81, 92, 142, 143, 196, 208, 283, 321, 332, 387, 490, 491, 562, 581, 584, 612, 620, 636,
     650, 776, 1425, 1503, 1675, 2149, 2157, 2587, 2592, 3501, 3661, 3845, 4795, 5503, 5600, 5992,
     6012, 6614, 7108, 7784, 7818, 7858, 9914, 10363, 11615, 12667, 13004}
)  # fmt: skip
"""COCO photos of food, pets and signs: a person in front of them would be a dwarf or a giant."""
HELD_OUT_PART = 7  # every seventh photo is kept for validation


@dataclass
class Library:
    """Sources of all that varies between scenes."""

    wardrobe: Wardrobe
    poses: PoseBank
    shapes: ShapeBank
    textures: Textures
    pictures: list[Array]
    panoramas: list[Array]
    cut_outs: list[CutOut]
    grain: Array
    background_shares: Array  # (3,) photo, panorama, room
    outfits: list[Outfit]

    @classmethod
    def load(cls, config: SyntheticConfig, outfits: int = OUTFITS) -> Library:
        """Read the data folders, paint what has to be painted and sew `outfits`."""
        rng = np.random.default_rng(config.texture_seed + 1000 * config.held_out)
        model = load_body(config.body)
        body = FastBody(model)
        photos = config.photos and config.data
        pictures, close, cut_outs = _photos(config) if photos else ([], [], [])
        panoramas = _panoramas(config.data / "scenes/hdri") if config.data else []
        textures = make_textures(rng, pictures + close)
        wardrobe = Wardrobe(body, _face_points(model))
        weights = np.array([0.5, 0.08, 0.42]) * [bool(pictures), bool(panoramas), True]
        clips = read_clips(config.data, body.point_mean, config.held_out) if config.data else []
        return cls(
            wardrobe, PoseBank(clips), ShapeBank(body), textures, pictures, panoramas, cut_outs,
            make_grain(rng), weights / weights.sum(),
            [wardrobe.dress(rng, textures) for _ in range(outfits)],
        )  # fmt: skip

    def outfit(self, rng: Random) -> Outfit:
        """One of the outfits, in other colours."""
        return self.wardrobe.recolour(
            rng, self.outfits[rng.integers(len(self.outfits))], self.textures
        )


def _face_points(model: BodyModel) -> Array | None:
    """Nose, left eye and right eye (3, 3) at rest, where the body knows them."""
    if "coco17" not in model.keypoint_sets:
        return None
    rest = torch.eye(3).expand(24, 3, 3)
    zeros = torch.zeros(10)
    with torch.no_grad():
        return model.keypoints(rest, zeros, torch.zeros(3), "coco17")[:3].numpy()


def _photos(config: SyntheticConfig) -> tuple[list[Array], list[Array], list[CutOut]]:
    """Backgrounds, close-ups and cut-outs of the training or the validation part."""
    assert config.data is not None
    coco = config.data / "train2d/coco128x2"
    tests = _test_photos(config.data)
    paths = sorted((config.data / "scenes/backgrounds-coco").glob("*.jpg"))
    if not paths:
        raise MissingFileError(f"no photos in {config.data}/scenes/backgrounds-coco")
    close = [path for path in paths if path.stem.isdigit() and int(path.stem) in CLOSE_UPS]
    wide = [path for path in paths if path not in close]
    cut_outs: list[CutOut] = []
    for split in ("train2017", "val2017"):
        labels = coco / "instance_segmentation/labels" / split
        cut_outs += load_cut_outs(coco / "images" / split, labels, tests)
    pick = _every if config.held_out else _rest
    pictures = [load_picture(path) for path in pick(wide)]
    return pictures, [load_picture(path) for path in pick(close)], pick(cut_outs)


def _every(items: list) -> list:
    return items[::HELD_OUT_PART]


def _rest(items: list) -> list:
    return [item for n, item in enumerate(items) if n % HELD_OUT_PART]


def _test_photos(data: Path) -> set[str]:
    """Stems of the photos that are kept for tests."""
    labels = data / "train2d/person_keypoints_derived.json"
    return {Path(image["file_name"]).stem for image in json.loads(labels.read_text())["images"]}


def _panoramas(folder: Path) -> list[Array]:
    paths = sorted(folder.glob("*.hdr"))
    stored = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
    return [panorama[..., ::-1].copy() for panorama in stored if panorama is not None]


def read_clips(data: Path, rest_points: Array, held_out: bool = False) -> list[Clip]:
    """All recorded motions below a data folder's mocap/, without (or only) the held-out ones.

    Args:
        data: the data folder.
        rest_points: (29, 3) rest points of the body that shall move.
        held_out: give those kept for tests instead.
    """
    mocap = data / "mocap"
    clips = read_cmu(mocap / "cmu-expmap/cmu_mocap_expmap.tar.xz", rest_points, stride=8)
    clips += read_deepmimic(mocap / "deepmimic/deepmimic_motions.tar.xz", rest_points)
    clips += read_makehuman(mocap / "makehuman-poses", rest_points)
    kept = [any(part in clip.name for part in HELD_OUT_CLIPS) for clip in clips]
    return [clip for clip, apart in zip(clips, kept) if apart == held_out]
