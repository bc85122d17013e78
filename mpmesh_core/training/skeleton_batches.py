"""skeleton_batches: what the skeleton network sees and is taught in one step.

In   stores of people, each with its share; a step number
Out  labels of the batch (`PeopleStore.view`), and its pictures or, for `device_crops`, its views

A batch depends on seed, step and rank only, so a resumed run sees what an uninterrupted one would
have seen. Only where stores are awaited does it depend on when they are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mpmesh_core.errors import MissingFileError
from mpmesh_core.training.augment import AugmentConfig
from mpmesh_core.training.skeleton_data import PeopleStore

Array = np.ndarray


class BatchConfig(Protocol):
    """What batches need to know of a run."""

    @property
    def stores(self) -> Mapping[str, float]: ...
    @property
    def pixels(self) -> Literal["loader", "device"]: ...
    @property
    def awaited(self) -> bool: ...
    @property
    def augment(self) -> AugmentConfig: ...
    @property
    def size(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def seed(self) -> int: ...


class Batches(Dataset[dict[str, Tensor]]):
    """Batches by step number, of which each device has its part."""

    def __init__(self, config: BatchConfig, rank: int = 0, devices: int = 1) -> None:
        self._config, self._rank, self._devices = config, rank, devices
        self._stores: dict[int, PeopleStore] = {}
        self.open_stores()

    def __reduce__(self) -> tuple[type[Batches], tuple[BatchConfig, int, int]]:
        """Workers open the stores anew instead of getting a copy of the pictures."""
        return Batches, (self._config, self._rank, self._devices)

    @property
    def people(self) -> int:
        """How many there are in all stores."""
        return sum(map(len, self._stores.values()))

    def open_stores(self) -> dict[int, PeopleStore]:
        """The stores by their number in the configuration; awaited ones once they are written.

        Raises:
            MissingFileError: one is not there, nor awaited; or none is.
        """
        for number, folder in enumerate(self._config.stores):
            if number in self._stores:
                continue
            if not self._config.awaited or (Path(folder) / "patches.bin").is_file():
                self._stores[number] = PeopleStore(folder)
        if not self._stores:
            raise MissingFileError("none of the stores is there yet: build one first")
        return self._stores

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """The batch of one step."""
        config = self._config
        stores = self.open_stores()
        numbers = np.array(sorted(stores))
        shares = np.array(list(config.stores.values()))[numbers]
        rng = np.random.default_rng((config.seed, step))
        chosen = rng.choice(numbers, config.batch * self._devices, p=shares / shares.sum())
        samples = []
        for place in range(self._rank, len(chosen), self._devices):
            number = int(chosen[place])
            own = np.random.default_rng((config.seed, step, place))
            index = int(own.integers(len(stores[number])))
            if config.pixels == "loader":
                samples.append(stores[number].crop(index, own, config.augment, config.size))
            else:
                samples.append(self._view(number, index, own))
        return {
            name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
            for name in samples[0]
        }

    def _view(self, number: int, index: int, rng: np.random.Generator) -> dict[str, Array]:
        """Labels and view of one person, and where its pixels lie."""
        store = self._stores[number]
        view, labels = store.view(index, rng, self._config.augment, self._config.size)
        start, shape = store.place(index)
        donor_start, donor_shape = store.place(max(view.donor, 0))
        places = {"start": start, "shape": shape}
        places |= {"donor_start": donor_start, "donor_shape": donor_shape, "store": number}
        return {name: np.asarray(value) for name, value in places.items()} | view.arrays() | labels
