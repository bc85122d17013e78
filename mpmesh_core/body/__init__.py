"""The parametric body: SMPL-format files and their batched forward pass."""

from mpmesh_core.body.files import find_body_file, read_body_file
from mpmesh_core.body.loading import load_body
from mpmesh_core.body.model import BodyModel, BodyOutput

__all__ = ["BodyModel", "BodyOutput", "find_body_file", "load_body", "read_body_file"]
