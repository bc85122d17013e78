"""engines: every network behind one interface; a backend a file, chosen in `loading`."""

from mpmesh_core.engines.base import Engine
from mpmesh_core.engines.loading import CPU_ONLY, Backend, choose_backend, load_engine

__all__ = ["CPU_ONLY", "Backend", "Engine", "choose_backend", "load_engine"]
