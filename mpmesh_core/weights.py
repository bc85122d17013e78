"""weights: where the checkpoints lie.

The shipped set is in `mpmesh_core/assets`, named `<network>-<variant>.safetensors`; a user's folder
has the same names. The detector comes in one variant.
"""

from __future__ import annotations

from pathlib import Path

from mpmesh_core.errors import MissingFileError

ASSETS = Path(__file__).parent / "assets"


def weights_path(network: str, variant: str = "light", folder: Path | None = None) -> Path:
    """Path of one network's checkpoint.

    Args:
        network: detector, skeleton or refiner.
        variant: light or paper.
        folder: a folder of checkpoints, or None for the shipped set.

    Raises:
        MissingFileError: no such file, with what to do.
    """
    where = ASSETS if folder is None else folder
    path = where / f"{network}-{'light' if network == 'detector' else variant}.safetensors"
    if path.is_file():
        return path
    if folder is None:
        raise MissingFileError(
            f"no {variant} weights of the {network} are shipped ({path.name}); train them "
            f"(`mpmesh train {network} --help`) and name their folder with --weights"
        )
    raise MissingFileError(
        f"weights folder {folder} holds no {path.name}; it needs detector-light, "
        f"skeleton-{variant} and refiner-{variant}.safetensors"
    )
