"""configuration: everything that can be chosen about the line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mpmesh_core.engines import Backend
from mpmesh_core.paths import HomePath

Choice = Literal["auto", "on", "off"]
SecondLook = Literal["auto", "on", "thorough", "off"]


class PipelineConfig(BaseModel):
    """Everything that can be chosen about the line; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: Literal["light", "paper"] = Field("light", description="size of the networks")
    backend: Backend = Field("auto", description="what runs the networks")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    weights: HomePath | None = Field(
        None, description="folder of checkpoints instead of the shipped"
    )
    detector: HomePath | None = Field(None, description="ONNX file of another person detector")
    body: str = Field("open", description="open, smpl, or a path to a body file")
    gender: Literal["neutral", "male", "female"] = Field("neutral", description="of an SMPL body")
    max_people: Annotated[int, Field(ge=1, le=256)] = Field(
        32, description="people a frame, best scores first"
    )
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="detections below it are dropped; None takes the detector's own"
    )
    mirror: bool = Field(
        False,
        description="read each crop in a mirror too, and average; thorough looks do so anyway",
    )
    second_look: SecondLook = Field(
        "auto",
        description="look again: at people who lean or are unclear (on), or at everybody in a"
        " mirror, at unclear people from many sides and at hidden ones (thorough); auto: on a CPU"
        " without a deadline, thorough on single pictures",
    )
    fuse: Choice = Field(
        "auto", description="compile the line on a GPU into fewer kernels; auto: off"
    )
    refine: bool = Field(True, description="run the relation-aware refiner")
    context: Annotated[int, Field(ge=1, le=4)] = Field(
        3, description="people in one refiner run, the target included (N of the paper)"
    )
    track: bool = Field(True, description="identities, states and velocities over frames")
    smooth: bool = Field(False, description="quieter bodies on videos, a little late")
    mesh: bool = Field(False, description="compute the vertices of every person")
    deadline_ms: Annotated[float, Field(gt=0)] | None = Field(
        None, description="give up vertices, refiner, then the farthest people to be done in time"
    )
