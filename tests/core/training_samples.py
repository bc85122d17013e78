"""Small made-up data to train on: scenes without a picture worth seeing, and a skeleton engine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import roma
import torch

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.networks.refiner import RefinerConfig
from mpmesh_core.networks.skeleton import SkeletonConfig
from mpmesh_core.training.losses import RefinerTruth
from mpmesh_core.training.refiner import RefinerTraining, cache_folder
from mpmesh_core.training.refiner_data import cache_scenes
from mpmesh_core.training.scene import PersonTruth, Scene
from mpmesh_core.training.skeleton import SkeletonTraining

CHANNELS = 8
CAMERA = Camera.from_fov(320, 240)
NETWORK = RefinerConfig(feature_channels=CHANNELS, width=32, mlp=32)


class Noise:
    """A skeleton engine that answers at random, but finite."""

    name, backend, device = "skeleton", "torch", torch.device("cpu")
    input_names: tuple[str, ...] = ("image",)
    output_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)

    def run(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        people = len(inputs["image"])

        def draw(*shape: int) -> torch.Tensor:
            return torch.rand(people, *shape, generator=self._generator)

        return {
            "points3d": draw(29, 3) - 0.5,
            "points2d": 255 * draw(29, 2),
            "confidence": draw(29),
            "twist": draw(23, 2),
            "betas": draw(10),
            "features": draw(CHANNELS, 8, 8),
            "heatmaps": draw(24, 64).softmax(-1).unflatten(-1, (8, 8)),
        }


def scenes(counts: tuple[int, ...], seed: int = 0) -> list[Scene]:
    """Grey pictures with people at known places."""
    rng = np.random.default_rng(seed)

    def person() -> PersonTruth:
        rotvec = torch.from_numpy(0.4 * rng.standard_normal((24, 3))).float()
        return PersonTruth(
            rotations=roma.rotvec_to_rotmat(rotvec).numpy(),
            betas=rng.standard_normal(10).astype(np.float32),
            transl=np.array((rng.uniform(-1, 1), 0, rng.uniform(3, 6)), np.float32),
            box=np.array((60, 40, 160, 220), np.float32),
            visible_box=None,
            visibility=1.0,
        )

    grey = np.full((240, 320, 3), 128, np.uint8)
    return [Scene(grey, CAMERA, [person() for _ in range(count)]) for count in counts]


def standing_scene(seed: int, depth: float = 3.0) -> Scene:
    """One standing open body at a depth [m], its joints drawn as dots."""
    rng = np.random.default_rng(seed)
    body = load_body("open")
    upright = np.diag([1.0, -1.0, -1.0])
    turn = rng.uniform(-1, 1)
    spin = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    rotations = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
    rotations[0] = upright @ spin
    betas = rng.normal(0, 0.5, 10).astype(np.float32)
    transl = np.array([rng.uniform(-0.3, 0.3), 0.2, depth], np.float32)
    pose = [torch.from_numpy(a) for a in (rotations, betas, transl)]
    px = CAMERA.project(body(*pose, vertices=False).points.numpy())
    image = rng.integers(0, 80, (240, 320, 3), dtype=np.uint8)
    for u, v in np.round(px).astype(int):
        image[max(v - 2, 0) : v + 3, max(u - 2, 0) : u + 3] = (250, 200, 120)
    box = np.concatenate((px.min(0) - 4, px.max(0) + 4)).astype(np.float32)
    return Scene(image, CAMERA, [PersonTruth(rotations, betas, transl, box, box, 1.0)])


def truth_of(body: BodyModel, people: int = 4, depth: float = 3.0) -> RefinerTruth:
    """People straight ahead of their crop cameras at a depth [m], as large in all of them."""
    torch.manual_seed(0)
    rotations = roma.rotvec_to_rotmat(0.3 * torch.randn(people, 24, 3))
    betas, zero = torch.randn(people, 10), torch.zeros(people, 3)
    points = body(rotations, betas, zero, vertices=False).points
    coco = body.keypoints(rotations, betas, zero, "coco17") - points[:, :1]
    points = points - points[:, :1]
    focal = 100 * depth
    K = torch.tensor([[focal, 0, 127.5], [0, focal, 127.5], [0, 0, 1]]).repeat(people, 1, 1)
    ahead = torch.tensor([0.0, 0.0, depth])
    uv = [(x + ahead) @ K[0].T for x in (points, coco)]
    pixels, coco = (x[..., :2] / x[..., 2:] for x in uv)
    one = torch.ones(people)
    labelled = torch.cat((coco, torch.ones_like(coco[..., :1])), -1)
    return RefinerTruth(rotations, betas, points, one, pixels, one, labelled, K)


def made_cache(folder: Path) -> Path:
    """A refiner cache of ten people in four pictures."""
    cache_scenes(folder, scenes((1, 3, 0, 2, 4)), Noise(), load_body("open"))
    return folder


def refiner_training(output: Path, cache: Path, **changes: object) -> RefinerTraining:
    """A small run whose caches exist already."""
    settings: dict[str, object] = {
        "output": str(output), "skeleton": "", "scenes": {"/made/scenes": 1.0},
        "network": NETWORK, "batch": 8,
        "rate": 3e-3, "log_every": 5, "save_every": 20, "threads": 1,
    }  # fmt: skip
    config = RefinerTraining(**(settings | changes))  # type: ignore[arg-type]
    target = cache_folder(config, "/made/scenes")
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # of an earlier run, or of a process beside this one
        target.symlink_to(cache)
    return config


def skeleton_training(output: Path, store: Path, **changes: object) -> SkeletonTraining:
    """A small run on a store of people."""
    settings: dict[str, object] = {
        "output": str(output), "stores": {str(store): 1.0},
        "network": SkeletonConfig(features=32, hidden=32), "steps": 4, "batch": 4, "size": 64,
        "frozen_stages": 0, "precision": "32-true", "threads": 1, "save_every": 100,
        "log_every": 2, "workers": 0,
    }  # fmt: skip
    return SkeletonTraining(**(settings | changes))  # type: ignore[arg-type]
