"""checkpoint: one safetensors file per network, its metadata included.

The file holds the state dict and, under the metadata key `mpmesh`, one JSON object: `kind`,
`variant`, `config` (what `from_config` needs), `version`, and whatever the writer adds
(`training_data`, `metrics`, `licence`, ...). Loading gives the network in eval mode, float32, on
the CPU. Nothing in a checkpoint is executed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mpmesh_core.errors import MissingFileError, WeightsError
from mpmesh_core.networks import Network, network_class

Kind = TypeVar("Kind", bound=nn.Module)
FORMAT_VERSION = 1
_KEY = "mpmesh"
_READABLE = 0o644


def save_checkpoint(
    path: str | Path,
    network: nn.Module,
    config: dict[str, Any],
    *,
    half: bool = False,
    **metadata: Any,
) -> None:
    """Write a network and its description; an existing file is replaced in one step.

    Args:
        path: the .safetensors file to write; its folder is made.
        network: a registered network (see `mpmesh_core.networks`).
        config: what `from_config` needs to rebuild it; JSON values only.
        half: store matrices and kernels as float16 (vectors and running statistics stay float32).
        metadata: further JSON values: training_data, metrics, licence, ...
    """
    described = cast(Network, network)
    header = {
        "kind": described.KIND,
        "variant": described.variant,
        "version": FORMAT_VERSION,
        "config": config,
        **metadata,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(_stored_tensors(network, half), scratch, metadata={_KEY: json.dumps(header)})
    scratch.chmod(_READABLE)  # safetensors writes for the owner alone
    os.replace(scratch, path)


def load_checkpoint(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild the network that a checkpoint holds.

    Returns:
        The network (eval mode, float32, CPU) and its metadata.

    Raises:
        MissingFileError: no such file.
        WeightsError: not a checkpoint of MPMesh, damaged, or one that does not fit its own config.
    """
    metadata, tensors = read_checkpoint(path)
    kind = network_class(metadata["kind"])
    try:
        network: nn.Module = kind.from_config(metadata["config"])  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:  # also pydantic's and our own
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path} has a configuration that fits no network: {reason}") from None
    _fill(network, tensors, Path(path))
    return network.eval(), metadata


def load_network(path: str | Path, kind: type[Kind]) -> Kind:
    """The network of a checkpoint, which must be of that class.

    Raises:
        MissingFileError, WeightsError: as `load_checkpoint`, or it is of another class.
    """
    network, _ = load_checkpoint(path)
    if not isinstance(network, kind):
        raise WeightsError(f"{path} holds a {type(network).__name__}")
    return network


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and float32 tensors of a checkpoint, without building the network.

    Raises:
        MissingFileError, WeightsError: as `load_checkpoint`.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no weights file {path}: check the path or train the network first")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {name: _full_precision(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file ({error})") from None
    if header is None:
        raise WeightsError(f"{path} has no MPMesh metadata: it was not written by `mpmesh train`")
    return _checked_header(header, path), tensors


def _checked_header(text: str, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path} has damaged metadata ({error})") from None
    missing = {"kind", "variant", "config", "version"} - (
        set(header) if isinstance(header, dict) else set()
    )
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(sorted(missing))} in its metadata")
    if header["version"] not in range(FORMAT_VERSION + 1):
        raise WeightsError(
            f"{path} has format version {header['version']}, this MPMesh reads up to "
            f"{FORMAT_VERSION}: update MPMesh"
        )
    return header


def _stored_tensors(network: nn.Module, half: bool) -> dict[str, Tensor]:
    parameters = dict(network.named_parameters())
    return {
        name: _for_storage(tensor, half and name in parameters and tensor.ndim >= 2)
        for name, tensor in network.state_dict().items()
    }


def _for_storage(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.half() if half else tensor).clone(memory_format=torch.contiguous_format)


def _full_precision(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _fill(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load a state dict whose names and shapes must all agree."""
    expected = network.state_dict()
    wrong = sorted(
        name
        for name in expected.keys() | tensors.keys()
        if name not in expected
        or name not in tensors
        or expected[name].shape != tensors[name].shape
    )
    if wrong:
        raise WeightsError(
            f"{path} does not fit its own configuration: {len(wrong)} tensors differ, "
            f"first {wrong[0]}"
        )
    damaged = [name for name, value in tensors.items() if not value.isfinite().all()]
    if damaged:
        raise WeightsError(f"{path}: {damaged[0]} holds NaN or infinity: its training went wrong")
    network.load_state_dict(tensors)
