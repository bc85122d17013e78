"""devices: one process or many, on CPUs or GPUs, behind lightning's Fabric."""

from __future__ import annotations

import os
from typing import Any, Protocol

import torch
from lightning import Fabric
from torch import nn

from mpmesh_core.errors import UsageError


class DeviceConfig(Protocol):
    """What Fabric needs to know of a run."""

    @property
    def devices(self) -> int: ...
    @property
    def accelerator(self) -> str: ...
    @property
    def precision(self) -> str: ...


def make_fabric(config: DeviceConfig) -> Fabric:
    """Devices as configured, or as torchrun started them; already launched.

    Raises:
        UsageError: a GPU is asked for where torch sees none.
    """
    if config.accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise UsageError(
            f"accelerator={config.accelerator} needs a GPU, and torch sees none: set "
            "accelerator=cpu and precision=bf16-mixed"
        )
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", config.devices))
    nodes = int(os.environ.get("WORLD_SIZE", devices)) // devices
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        precision=config.precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def synchronised(network: nn.Module, fabric: Fabric) -> Any:
    """The network with batch norms that see the batches of all devices.

    Raises:
        UsageError: on a CPU, where torch has none.
    """
    if fabric.device.type != "cuda":
        raise UsageError("norms=synchronised needs GPUs: use batch or frozen on a CPU")
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)
