"""settings: everything that can be chosen about the node, declared once, without ROS.

ROS parameters with their descriptors, the checks of new values and the table in docs/ros2.md all
come from `NodeSettings`. ROS parameters know no null: an empty string or a negative number stands
for what a setting calls None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from mpmesh_core.configuration import PipelineConfig
from mpmesh_core.errors import UsageError
from mpmesh_core.messages import MessageOptions
from mpmesh_core.paths import HomePath

SWITCHES = frozenset({"second_look", "fuse"})  # YAML takes on and off without quotes for booleans
_ON_OFF = {True: "on", False: "off"}
NEVER_A_PARAMETER = "mesh"  # meshes are posed where somebody listens
_DYNAMIC: dict[str, Any] = {"dynamic": True}


class NodeSettings(PipelineConfig):
    """The pipeline's settings, and those of the node; unknown keys are refused."""

    image_transport: Literal["raw", "compressed"] = Field(
        "raw", description="subscribe `image`, or `image/compressed`"
    )
    rectification: Literal["auto", "raw", "rectified"] = Field(
        "auto",
        description="whether pictures have the lens's distortion (K and D) or not (P); auto goes "
        "by the topic's name, image_rect...",
    )
    camera_file: HomePath | None = Field(
        None, description="CameraInfo YAML instead of the camera_info topic"
    )
    fov_degrees: Annotated[float, Field(ge=1, le=175)] | None = Field(
        None,
        description="field of view on the longer side, used while no camera_info has come; "
        "negative: pictures without camera_info are left out [degree]",
    )
    use_depth: bool = Field(
        False, description="subscribe `depth`, aligned to the image, and take distances from it"
    )
    depth_slop_s: Annotated[float, Field(ge=0, le=1)] = Field(
        0.04, description="largest difference of stamps of an image and its depth [s]"
    )
    max_image_age_s: Annotated[float, Field(ge=0, le=60)] = Field(
        0.5,
        description="older pictures are dropped; 0: none is [s]",
        json_schema_extra=_DYNAMIC,
    )
    vertices: bool = Field(
        False, description="fill in the meshes of ~/people", json_schema_extra=_DYNAMIC
    )
    publish_tf: bool = Field(
        True, description="publish body_<id> frames", json_schema_extra=_DYNAMIC
    )
    joint_frames: bool = Field(
        False, description="and <joint>_<id> frames below them", json_schema_extra=_DYNAMIC
    )
    frame_prefix: str = Field(
        "",
        pattern=r"^([A-Za-z][A-Za-z0-9_]*)?$",
        description="before names of frames and people, and ids of REP 155, such as left_: one for "
        "each of several cameras; a letter, then letters, digits and _",
    )
    humans: bool = Field(False, description="publish /humans/bodies/... of REP 155; needs hri_msgs")
    target_id: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="track id of ~/target_pose; negative: the nearest person",
        json_schema_extra=_DYNAMIC,
    )
    navigation_frame: str = Field(
        "",
        description="frame of /people, by tf2; empty: the camera's",
        json_schema_extra=_DYNAMIC,
    )
    transform_timeout_s: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="how long to wait for that transform [s]", json_schema_extra=_DYNAMIC
    )
    autostart: bool = Field(True, description="configure and activate by itself")
    build_only: bool = Field(False, description="build the engines and exit")

    @model_validator(mode="before")
    @classmethod
    def _stand_ins_for_none(cls, values: Any) -> Any:
        optional = {name for name, field in cls.model_fields.items() if field.default is None}
        for name, value in values.items():
            if name in optional and _stands_for_none(value):
                values = {**values, name: None}
            elif name in SWITCHES and isinstance(value, bool):
                values = {**values, name: _ON_OFF[value]}
        return values

    @property
    def pipeline(self) -> PipelineConfig:
        """The pipeline's part."""
        return PipelineConfig(**{name: getattr(self, name) for name in PipelineConfig.model_fields})

    @property
    def messages(self) -> MessageOptions:
        """The messages' part."""
        return MessageOptions(
            self.gender, self.vertices, self.joint_frames, self.target_id, self.frame_prefix
        )

    def changed(self, values: dict[str, Any]) -> NodeSettings:
        """These settings with some other values.

        Raises:
            UsageError: a value that isn't possible, named.
        """
        return settings_from({**self.model_dump(), **values})


def _stands_for_none(value: Any) -> bool:
    return value == "" or (isinstance(value, (int, float)) and value < 0)


def settings_from(values: dict[str, Any]) -> NodeSettings:
    """Settings from parameter values.

    Raises:
        UsageError: a value that isn't possible, named.
    """
    try:
        return NodeSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0] if first["loc"] else "settings"
        raise UsageError(f"{name} {first['input']!r}: {first['msg'].lower()}") from None


@dataclass(frozen=True)
class ParameterRow:
    """One ROS parameter."""

    name: str
    default: bool | int | float | str
    description: str
    dynamic: bool  # may be set while the node runs
    choices: tuple[str, ...] = ()
    low: float | None = None  # of numbers; -1 where a negative one stands for None
    high: float | None = None


def parameter_rows() -> list[ParameterRow]:
    """Every ROS parameter of the node, the pipeline's first."""
    schema = NodeSettings.model_json_schema()["properties"]
    return [_row(name, entry) for name, entry in schema.items() if name != NEVER_A_PARAMETER]


_NONE: dict[str, Any] = {"string": "", "number": -1.0, "integer": -1}


def _row(name: str, entry: dict[str, Any]) -> ParameterRow:
    value = next((part for part in entry.get("anyOf", ()) if part["type"] != "null"), entry)
    optional = "anyOf" in entry
    default = _NONE[value["type"]] if optional else entry["default"]
    if value["type"] == "number":
        default = float(default)
    low, high = value.get("minimum"), value.get("maximum")
    numeric = value["type"] in ("number", "integer")
    return ParameterRow(
        name,
        default,
        entry["description"],
        entry.get("dynamic", False),
        tuple(value.get("enum", ())),
        -1 if optional and numeric else low,
        high,
    )
