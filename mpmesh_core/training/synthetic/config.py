"""config: what synthetic pictures are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class SyntheticConfig(BaseModel):
    """Data folders (None: do without) and options of the synthetic pictures.

    Without any folder the pictures hold composed postures in painted rooms.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path | None = Field(None, description="data folder with mocap/, scenes/ and train2d/")
    body: str = Field("open", description="body model, as for `load_body`")
    photos: bool = Field(True, description="photo backgrounds and cut-outs (not CC0)")
    held_out: bool = Field(False, description="use only the clips and photos kept for validation")
    people_shares: tuple[Share, ...] = Field(
        (0.34, 0.33, 0.2, 0.13), description="share of scenes with 1, 2, ... people"
    )
    texture_seed: int = Field(0, description="seed of the shared textures and outfits")
