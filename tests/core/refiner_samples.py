"""Made-up scenes and a skeleton engine that guesses, for tests of what trains on them."""

from __future__ import annotations

import numpy as np
import roma
import torch

from mpmesh_core.camera import Camera
from mpmesh_core.networks.refiner import RefinerConfig
from mpmesh_core.training.scene import PersonTruth, Scene

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
