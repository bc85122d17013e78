"""adversary: discriminators that know real poses, and the loss of those that look made up.

The refiner's loss takes `deceive` (eq. 15); after the refiner's step, `learn` trains the
discriminators on the same people against as many real ones (eq. 14). Real poses are recorded
motions, left and right alike; real shapes follow the body's own statistics, a standard normal
distribution per component.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Fabric
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.errors import MissingFileError, UsageError
from mpmesh_core.networks.discriminator import Discriminators
from mpmesh_core.training.equations import Form, deceiving_loss, discriminator_loss
from mpmesh_core.training.losses import RefinerLossWeights
from mpmesh_core.training.mocap import Clip, mirror
from mpmesh_core.training.synthetic.library import read_clips
from mpmesh_core.training.synthetic.poses import PoseBank


class RealPeople:
    """Draws poses and shapes that people have."""

    def __init__(self, clips: list[Clip]) -> None:
        if not clips:
            raise MissingFileError("no recorded motions to take real poses from")
        self._bank = PoseBank(clips)

    @classmethod
    def from_data(cls, data: Path | str, body: BodyModel) -> RealPeople:
        """Those of a data folder's mocap/, without the motions kept for tests.

        Raises:
            MissingFileError: an archive of motions is not there.
        """
        rest = body.rest_points(torch.zeros(10, device=body.v_template.device))
        return cls(read_clips(Path(data), rest.cpu().numpy()))

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Rotations (count, 23, 3, 3) of joints 1..23 and betas (count, 10)."""
        poses = np.stack([self._bank.frame(rng)[1] for _ in range(count)])
        turned = rng.random(count) < 0.5
        poses[turned] = mirror(poses[turned])
        betas = rng.standard_normal((count, 10)).astype(np.float32)
        return torch.from_numpy(poses[:, 1:]), torch.from_numpy(betas)


class Adversary:
    """Discriminators with their optimiser."""

    def __init__(self, fabric: Fabric, real: RealPeople, rate: float, form: Form) -> None:
        self._fabric, self._real, self._form = fabric, real, form
        self.networks = Discriminators().to(fabric.device)
        optimizer = torch.optim.Adam(self.networks.parameters(), rate)
        self._model, self.optimizer = fabric.setup(self.networks, optimizer)
        self._found: tuple[Tensor, Tensor] | None = None

    def deceive(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """Eq. 15 for rotations (N, 24, 3, 3) and betas (N, 10); they are kept for `learn`."""
        self._found = rotations[:, 1:].detach(), betas.detach()
        self.networks.requires_grad_(False)
        scores = self.networks(rotations[:, 1:], betas)
        self.networks.requires_grad_(True)
        return deceiving_loss(scores, self._form)

    def learn(self, *seed: int) -> dict[str, Tensor]:
        """One step on eq. 14 with the people of the last `deceive`; the loss, for the curve.

        Args:
            seed: numbers that decide which real people are drawn.
        """
        assert self._found is not None
        count = len(self._found[1])
        real = [
            part.to(self._fabric.device)
            for part in self._real.draw(count, np.random.default_rng(seed))
        ]
        both = [torch.cat(parts) for parts in zip(real, self._found)]
        scores = self._model(*both)
        loss = discriminator_loss(
            tuple(part[:count] for part in scores),
            tuple(part[count:] for part in scores),
            self._form,
        )
        self._fabric.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"discriminators": loss.detach()}

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {
            "networks": self.networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self.networks.load_state_dict(state["networks"])
        self.optimizer.load_state_dict(state["optimizer"])


def make_adversary(
    fabric: Fabric, weights: RefinerLossWeights, data: str | None, rate: float, body: BodyModel
) -> Adversary | None:
    """The adversary of a run; None where eq. 15 has no weight.

    Args:
        fabric: of the run.
        weights: of the run's losses.
        data: data folder with mocap/.
        rate: learning rate of the discriminators.
        body: whose poses they judge.

    Raises:
        UsageError: a weight, but no folder.
        MissingFileError: no motions there.
    """
    if weights.adversarial == 0:
        return None
    if data is None:
        raise UsageError("weights.adversarial needs real_poses: a data folder with mocap/")
    return Adversary(fabric, RealPeople.from_data(data, body), rate, weights.form)
