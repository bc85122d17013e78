"""engines: every network behind one interface; a backend a file, chosen in `loading`."""

from mpmesh_core.engines.base import Engine
from mpmesh_core.engines.loading import Backend, choose_backend, load_engine

__all__ = ["Backend", "Engine", "choose_backend", "load_engine"]
