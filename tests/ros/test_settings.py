"""settings: one declaration, from which parameters, their checks, file and table come."""

from pathlib import Path

import pytest
import yaml

from mpmesh_core.configuration import PipelineConfig
from mpmesh_core.errors import UsageError
from mpmesh_core.messages import OUTPUTS
from mpmesh_ros.settings import SWITCHES, NodeSettings, parameter_rows, settings_from

ROOT = Path(__file__).parents[2]
ROWS = {row.name: row for row in parameter_rows()}


class TestSettings:
    def test_defaults_are_those_of_the_library(self):
        settings = settings_from({name: row.default for name, row in ROWS.items()})
        assert settings == NodeSettings()
        assert settings.pipeline == PipelineConfig()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_people", 0),
            ("max_people", 257),
            ("score_threshold", 1.5),
            ("backend", "cuda"),
            ("rectification", "yes"),
            ("max_image_age_s", -1.0),
            ("fov_degrees", 0.5),
            ("frame_prefix", "left/"),
            ("second_look", 3),
            ("backend", True),
            ("frame_prefix", "2_"),
            ("no_such_parameter", 1),
        ],
    )
    def test_impossible_values_are_named(self, name, value):
        with pytest.raises(UsageError, match=name):
            settings_from({name: value})

    @pytest.mark.parametrize("name", ["second_look", "fuse"])
    def test_on_and_off_without_quotes(self, name):
        for value, word in ((True, "on"), (False, "off"), ("off", "off")):
            assert getattr(settings_from({name: value}), name) == word

    def test_switches_are_those_with_on_and_off(self):
        assert {n for n, row in ROWS.items() if {"on", "off"} <= set(row.choices)} == SWITCHES

    def test_empty_and_negative_stand_for_none(self):
        settings = settings_from(
            {"weights": "", "camera_file": "", "score_threshold": -1.0, "target_id": -1}
        )
        assert settings.weights is None and settings.camera_file is None
        assert settings.score_threshold is None and settings.target_id is None

    def test_changed_checks_and_leaves_the_old_ones(self):
        settings = NodeSettings()
        assert settings.changed({"max_image_age_s": 2.0}).max_image_age_s == 2.0
        with pytest.raises(UsageError, match="max_image_age_s"):
            settings.changed({"max_image_age_s": 100.0})
        assert settings.max_image_age_s == 0.5


class TestParameterRows:
    def test_every_one_is_described(self):
        assert all(row.description for row in ROWS.values())

    def test_the_network_part_is_fixed_while_the_node_runs(self):
        assert not any(ROWS[name].dynamic for name in PipelineConfig.model_fields if name != "mesh")
        assert ROWS["max_image_age_s"].dynamic

    def test_ranges_and_choices(self):
        assert (ROWS["max_people"].low, ROWS["max_people"].high) == (1, 256)
        assert (ROWS["score_threshold"].low, ROWS["score_threshold"].high) == (-1, 1)
        assert ROWS["backend"].choices == (
            "auto",
            "tensorrt",
            "torch",
            "onnxruntime",
            "openvino",
        )

    def test_types_are_those_of_ros_parameters(self):
        assert {type(row.default) for row in ROWS.values()} <= {bool, int, float, str}


class TestFiles:
    def test_the_shipped_file_holds_the_defaults(self):
        shipped = yaml.safe_load((ROOT / "config/mpmesh.yaml").read_text())
        expected = {name: row.default for name, row in ROWS.items() if name != "build_only"}
        assert shipped == {"/**": {"ros__parameters": expected}}

    def test_the_table_lists_every_parameter(self):
        text = (ROOT / "docs/ros2.md").read_text()
        for row in ROWS.values():
            mark = "* " if row.dynamic else ""
            start = f"| `{row.name}` | `{shown(row.default)}` | {mark}"
            assert start in text, row.name
            told = text.split(start)[1].split("\n")[0]
            assert not row.choices or f"one of {', '.join(row.choices)}" in told, row.name

    def test_the_page_names_every_output(self):
        text = (ROOT / "docs/ros2.md").read_text()
        for output in OUTPUTS:
            kind = output.type.replace("/msg/", "/")
            assert f"| `{output.topic}` | {kind} |" in text, output.name


def shown(value: object) -> str:
    """A default as YAML has it."""
    return yaml.safe_dump(value, default_style=None).split("\n")[0]
