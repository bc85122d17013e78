"""config: what synthetic pictures are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class SyntheticConfig(BaseModel):
    """Data folders (None: do without) and options of the synthetic pictures.

    Without any folder the pictures hold composed postures in painted rooms.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path | None = Field(
        default=None, description="data folder with mocap/, scenes/ and train2d/"
    )
    body: str = Field(default="open", description="body model, as for `load_body`")
    photos: bool = Field(default=True, description="photo backgrounds and cut-outs (not CC0)")
    held_out: bool = Field(
        default=False, description="use only the clips and photos kept for validation"
    )
    people_shares: tuple[Share, ...] = Field(
        default=(0.34, 0.33, 0.2, 0.13), description="share of scenes with 1, 2, ... people"
    )
    interacting: Share = Field(
        default=0.0, description="share of scenes whose people stand in reach of one another"
    )
    low: Share = Field(
        default=0.0, description="share of people near the ground (sitting, lying, crawling) extra"
    )
    texture_seed: int = Field(default=0, description="seed of the shared textures and outfits")

    @model_validator(mode="after")
    def _somebody_to_interact_with(self) -> SyntheticConfig:
        if self.interacting > 0 and not any(self.people_shares[1:]):
            raise ValueError("interacting needs scenes of two people or more in people_shares")
        return self


class SynthesisConfig(SyntheticConfig):
    """What `mpmesh train synthesize` makes."""

    output: Path = Field(default=Path("runs/synthetic"), description="folder for the shards")
    scenes: int = Field(default=12000, ge=1, description="pictures to make")
    seed: int = Field(default=0, description="seed of the scenes")
    processes: int = Field(default=2, ge=1, description="processes that work at the same time")
