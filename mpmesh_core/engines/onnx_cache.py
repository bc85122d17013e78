"""engines.onnx_cache: exported networks kept under the user's cache folder.

A file is named after the content of its checkpoint and the exporter's settings, so a changed
checkpoint is exported anew and an old file is never mistaken for it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from mpmesh_core.engines.export import OPSET, export_onnx
from mpmesh_core.errors import InputError, MissingFileError, WeightsError
from mpmesh_core.networks import Network, network_class
from mpmesh_core.paths import expanded

logger = logging.getLogger(__name__)

Opened = TypeVar("Opened")
Names = tuple[str, ...]

CACHE_VERSION = 3  # raise it when the same checkpoint must give another graph


def cache_folder() -> Path:
    """Folder for files that can be made again: MPMESH_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("MPMESH_CACHE_DIR")
    if chosen:
        return expanded(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else expanded("~/.cache")) / "mpmesh"


def open_cached(
    name: str, checkpoint: Path, open_file: Callable[[Path], Opened], half: bool = False
) -> Opened:
    """What is made of a checkpoint's ONNX file; where that cannot be used, it is exported anew.

    Args:
        name, checkpoint, half: as of `cached_onnx`, whose errors this raises too.
        open_file: raises WeightsError where the file cannot be used.

    Raises:
        WeightsError: the new file cannot be used either.
    """
    path = cached_onnx(name, checkpoint, half)
    try:
        return open_file(path)
    except WeightsError as error:
        logger.warning("%s; it is exported anew", error)
        return open_file(cached_onnx(name, checkpoint, half, force=True))


def cached_onnx(name: str, checkpoint: Path, half: bool = False, force: bool = False) -> Path:
    """ONNX file of a checkpoint, exported where the cache does not have it.

    Args:
        name: detector, skeleton or refiner: what the checkpoint must hold.
        checkpoint: the .safetensors file.
        half: see `export_onnx`.
        force: export it even if the cache has it.

    Raises:
        MissingFileError, WeightsError: no such checkpoint, or not of this kind.
        InputError: the cache folder cannot be written.
    """
    from mpmesh_core.networks.checkpoint import load_checkpoint

    try:
        content = checkpoint.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"weights {checkpoint} do not exist") from None
    digest = hashlib.sha256(content + f"{CACHE_VERSION} {OPSET}".encode()).hexdigest()[:20]
    path = cache_folder() / "onnx" / f"{name}-{digest}{'-half' if half else ''}.onnx"
    if path.is_file() and not force:
        return path
    network, metadata = load_checkpoint(checkpoint)
    if metadata["kind"] != name:
        raise WeightsError(f"{checkpoint} holds a {metadata['kind']}, not a {name}")
    logger.info("exporting %s to %s, once", checkpoint.name, path)
    try:
        return export_onnx(network, path, half=half)
    except OSError as error:
        raise InputError(
            f"cache folder {path.parent} cannot be written ({error.strerror}); set "
            "MPMESH_CACHE_DIR to another"
        ) from None


def refuse_other_network(name: str, path: Path, inputs: Names, outputs: Names) -> None:
    """Do nothing where an ONNX file's inputs and outputs, in their order, are that network's.

    Raises:
        WeightsError: they are another's.
    """
    network = cast(Network, network_class(name))
    unknown = set(inputs) - set(network.INPUT_NAMES)  # exporting drops unused ones
    if unknown or outputs != network.OUTPUT_NAMES:
        raise WeightsError(f"{path} holds another network, not a {name}")
