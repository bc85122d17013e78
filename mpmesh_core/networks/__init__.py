"""networks: what is learned, by kind.

A network is an `nn.Module` that a checkpoint can rebuild and every engine can run. Beside torch's
interface it has

- `KIND`: its name in the registry below, `INPUT_NAMES` and `OUTPUT_NAMES`;
- `from_config(config: dict) -> network`: builds it from the JSON configuration in its checkpoint;
- `variant`: `light` or `paper`;
- `example_inputs(batch) -> dict[str, Tensor]`: inputs of the right shapes, in `INPUT_NAMES` order;
- `forward(*inputs) -> dict[str, Tensor]`: tensors in `INPUT_NAMES` order in, `OUTPUT_NAMES` out.

Modules are imported only when a network of their kind is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from mpmesh_core.errors import WeightsError

_REGISTRY = {
    "detector": ("mpmesh_core.networks.detector", "DetectorNetwork"),
    "skeleton": ("mpmesh_core.networks.skeleton", "SkeletonNetwork"),
    "refiner": ("mpmesh_core.networks.refiner", "RefinerNetwork"),
}
KINDS = tuple(_REGISTRY)


@runtime_checkable
class Network(Protocol):
    """What checkpoints, engines and the exporter need of a network (see the module docstring)."""

    KIND: ClassVar[str]
    INPUT_NAMES: ClassVar[tuple[str, ...]]
    OUTPUT_NAMES: ClassVar[tuple[str, ...]]
    variant: str

    def example_inputs(self, batch: int) -> dict[str, Tensor]: ...

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]: ...


def network_class(kind: str) -> type[nn.Module]:
    """The class registered for a kind of network.

    Raises:
        WeightsError: for a kind that is not one of `KINDS`.
    """
    if kind not in _REGISTRY:
        raise WeightsError(f"unknown network kind {kind!r}: expected one of {', '.join(KINDS)}")
    module, name = _REGISTRY[kind]
    return getattr(import_module(module), name)
