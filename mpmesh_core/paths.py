"""paths: `~` at the beginning of a path that no shell has seen, as in settings and in Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator


def expanded(path: str | Path) -> Path:
    """The path with `~` or `~user` as a home; a stranger's stays a name, as in a shell."""
    return Path(os.path.expanduser(path))


HomePath = Annotated[Path, AfterValidator(expanded)]
"""A path of settings, in which `~` may stand."""
