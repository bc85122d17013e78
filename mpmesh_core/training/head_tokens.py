"""head_tokens: what the joint head reads of many crops, made once.

In   a skeleton network whose joint head alone shall learn, batches of crops
Out  a folder of `crops-*.npy`: a record a crop, with tokens and labels

The rest of the network doesn't change, so what it says of a crop needs to be worked out once only.
The folder belongs to one network and one choice of crops; a call that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from mpmesh_core.networks.joint_head import JointTokens
from mpmesh_core.networks.skeleton import SkeletonNetwork
from mpmesh_core.training.settings import check_same
from mpmesh_core.training.skeleton_batches import Batches

Array = np.ndarray
LABELS = ("K", "twist", "betas", "points3d", "points2d")
"""What the losses of the network's outputs want to know, see `PeopleStore.crop`."""
_READ = "read_"  # before the names of tokens
_SHARD = 4096  # crops, more or less
_PRECISE = ("points3d", "points2d", "log_scale")  # tokens that half precision doesn't do for


def cache_tokens(
    folder: Path | str,
    network: SkeletonNetwork,
    batches: Batches,
    crops: int,
    made_from: dict[str, Any],
    precision: torch.dtype,
    part: tuple[int, int] = (0, 1),
) -> None:
    """Write the tokens of at least so many crops, or those that are missing.

    Args:
        folder: made if need be.
        network: in eval mode.
        batches: crops with labels, by step.
        crops: how many.
        made_from: what decides them, as JSON values; told apart from former calls by it.
        precision: in which convolutions run.
        part: rank and number of processes that share the work.

    Raises:
        UsageError: the folder holds tokens of something else.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    check_same(folder / "made_from.json", made_from, "tokens made from")
    size = len(batches[0]["image"])
    steps = max(1, _SHARD // size)
    shards = -(-crops // (steps * size))
    rank, processes = part
    for shard in track(range(rank, shards, processes), "joint head's tokens", disable=rank > 0):
        path = folder / f"crops-{shard:05}.npy"
        if path.is_file():
            continue
        records = [
            _records(network, batches[step], precision)
            for step in range(shard * steps, (shard + 1) * steps)
        ]
        scratch = path.with_suffix(".partial")
        with scratch.open("wb") as file:
            np.save(file, np.concatenate(records))
        scratch.replace(path)


class TokenCache:
    """Crops of a folder that `cache_tokens` wrote."""

    def __init__(self, folder: Path | str) -> None:
        paths = sorted(Path(folder).glob("crops-*.npy"))
        self._shards = [np.load(path, mmap_mode="r") for path in paths]
        self._ends = np.cumsum([len(shard) for shard in self._shards])

    def __len__(self) -> int:
        """Number of crops."""
        return int(self._ends[-1])

    def __getitem__(self, rows: Sequence[int] | Array) -> dict[str, Tensor]:
        """Tokens and labels of some crops, in the order of their numbers."""
        rows = np.sort(np.asarray(rows))
        parts = []
        for first, shard in zip((0, *self._ends), self._shards):
            own = rows[(rows >= first) & (rows < first + len(shard))] - first
            if len(own):
                parts.append(shard[own])
        records = np.concatenate(parts)
        names = records.dtype.names or ()
        return {name: torch.from_numpy(records[name].astype(np.float32)) for name in names}


def joint_tokens(batch: dict[str, Tensor]) -> JointTokens:
    """The tokens of a batch that a cache gives out."""
    return JointTokens(*(batch.get(_READ + name) for name in JointTokens._fields))  # type: ignore[arg-type]


@torch.inference_mode()
def _records(network: SkeletonNetwork, batch: dict[str, Tensor], precision: torch.dtype) -> Array:
    """One record a crop of a batch."""
    device = next(network.parameters()).device
    image = batch["image"].to(device).float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        tokens = network.tokens(image)
    read = {
        _READ + name: value.float() if name in _PRECISE else value.half()
        for name, value in tokens._asdict().items()
        if value is not None
    }
    values = {name: value.cpu().numpy() for name, value in read.items()}
    values |= {name: batch[name].numpy() for name in LABELS}
    kinds = [(name, value.dtype, value.shape[1:]) for name, value in values.items()]
    records = np.empty(len(image), kinds)
    for name, value in values.items():
        records[name] = value
    return records
