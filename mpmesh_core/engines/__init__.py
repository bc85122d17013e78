"""engines: every network behind one interface; a backend a file, chosen in `loading`."""

from mpmesh_core.engines.base import Engine
from mpmesh_core.engines.loading import (
    CPU_ONLY,
    SHAPES_KEPT,
    Backend,
    choose_backend,
    load_engine,
)

__all__ = ["CPU_ONLY", "SHAPES_KEPT", "Backend", "Engine", "choose_backend", "load_engine"]
