"""Plans in files: they come back, and a spoiled or foreign file is told from a good one."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from mpmesh_core.engines.plan_cache import (
    PlanKey,
    StoredPlan,
    plan_path,
    read_plan,
    why_not,
    write_plan,
)

KEY = PlanKey("skeleton", "abc", "half", "GPU (9.0)", "11.4.0", "image 3..3", 8)


class TestPlanCache:
    def test_comes_back(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b.plan"
        write_plan(path, StoredPlan(KEY, b"\x00plan\n\n"))
        stored = read_plan(path)
        assert stored == StoredPlan(KEY, b"\x00plan\n\n")
        assert why_not(stored, KEY) is None

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda content: content[:-1], "truncated"),
            (lambda content: content[:20], "damaged"),
            (lambda content: b"PK" + content, "not an engine of MPMesh"),
            (lambda content: content.replace(b'"gpu"', b'"cpu"'), "damaged"),
            (lambda content: content.replace(b'"half"', b"[16]"), "damaged"),
            (lambda content: content.replace(b": 8", b': "8"'), "damaged"),
        ],
    )
    def test_spoiled(self, tmp_path: Path, spoil, reason: str) -> None:
        path = tmp_path / "b.plan"
        write_plan(path, StoredPlan(KEY, b"plan"))
        path.write_bytes(spoil(path.read_bytes()))
        stored = read_plan(path)
        assert isinstance(stored, str)
        assert reason in stored
        assert why_not(stored, KEY) == stored

    def test_missing(self, tmp_path: Path) -> None:
        assert read_plan(tmp_path / "none.plan") == "there is none yet"

    def test_one_place_for_all_versions_and_profiles(self) -> None:
        other = replace(KEY, tensorrt="10.0", profile="image 3..4", max_people=9)
        assert plan_path(other) == plan_path(KEY)
        assert plan_path(replace(KEY, onnx="xyz")) != plan_path(KEY)

    def test_serves_for_fewer_people_and_for_nothing_else_that_differs(self) -> None:
        stored = StoredPlan(KEY, b"plan")
        assert why_not(stored, replace(KEY, max_people=1)) is None
        for field in fields(PlanKey):
            other = 9 if field.name == "max_people" else "other"
            reason = why_not(stored, replace(KEY, **{field.name: other}))
            assert reason is not None and field.name in reason
