"""engines.plan_cache: built engines in files that say what they were built from.

A plan works only with the network, precision, GPU, TensorRT version and shapes it was built for,
and for as many people at the most. The file begins with that description and a checksum, so that a
stale, foreign or truncated one is noticed before TensorRT sees it, and with what differs.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mpmesh_core.engines.onnx_cache import cache_folder
from mpmesh_core.errors import InputError

_MAGIC = b"MPMeshPlan2\n"


@dataclass(frozen=True)
class PlanKey:
    """What a plan was built from and for."""

    network: str  # detector, skeleton or refiner
    onnx: str  # digest of the ONNX file
    precision: str
    gpu: str  # name and compute capability
    tensorrt: str  # version
    profile: str  # shapes it takes, without the batch
    max_people: int  # largest batch; the detector's is 1


@dataclass(frozen=True)
class StoredPlan:
    """A plan as it lies in a file."""

    key: PlanKey
    plan: bytes


@dataclass(frozen=True)
class _Header:
    key: PlanKey
    sha256: str  # of the plan


_HEADERS = TypeAdapter(_Header)


def plan_path(key: PlanKey) -> Path:
    """Where the plan of this network lies; a newer one for another key takes its place."""
    place = hashlib.sha256(f"{key.network} {key.onnx} {key.gpu}".encode()).hexdigest()[:16]
    return plan_folder() / f"{key.network}-{place}.plan"


def plan_folder() -> Path:
    """Where all plans lie."""
    return cache_folder() / "tensorrt"


def write_plan(path: Path, stored: StoredPlan) -> None:
    """Write a plan; an old file is replaced in one step.

    Raises:
        InputError: the cache folder cannot be written.
    """
    header = asdict(_Header(stored.key, hashlib.sha256(stored.plan).hexdigest()))
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(_MAGIC + json.dumps(header).encode() + b"\n" + stored.plan)
        os.replace(scratch, path)
    except OSError as error:
        raise InputError(
            f"cache folder {path.parent} cannot be written ({error.strerror}); set "
            "MPMESH_CACHE_DIR to another"
        ) from None


def read_plan(path: Path) -> StoredPlan | str:
    """The plan in a file, or in a few words why there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "there is none yet"
    except OSError as error:
        return f"its file cannot be read ({error.strerror})"
    if not content.startswith(_MAGIC):
        return "its file is not an engine of MPMesh"
    text, _, plan = content[len(_MAGIC) :].partition(b"\n")
    try:
        header = _HEADERS.validate_json(text, strict=True)
    except ValidationError:
        return "its file is damaged"
    if hashlib.sha256(plan).hexdigest() != header.sha256:
        return "its file is truncated or damaged"
    return StoredPlan(header.key, plan)


def why_not(stored: StoredPlan | str, key: PlanKey) -> str | None:
    """Why a stored plan does not serve for a key, or None where it does.

    One for more people does: its shapes include those for fewer.
    """
    if isinstance(stored, str):
        return stored
    for field in fields(PlanKey):
        was, now = getattr(stored.key, field.name), getattr(key, field.name)
        serves = was >= now if field.name == "max_people" else was == now
        if not serves:
            return f"it was built for {field.name} {was}, this is {now}"
    return None
