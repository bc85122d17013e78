"""The scripts in benchmarks/: wrong input is told in one line, what was measured stays."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mpmesh_core.evaluation.latency import Latency

FOLDER = Path(__file__).parents[2] / "benchmarks"
Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Exit code of a script, and what it said on standard error."""
    monkeypatch.syspath_prepend(FOLDER)

    def call(name: str, *words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        code = 0
        try:
            import_module(name).main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, capsys.readouterr().err

    return call


@pytest.fixture
def scaling(call: Call) -> ModuleType:
    return import_module("scaling")


@pytest.mark.parametrize(
    ("words", "code", "pattern"),
    [
        ("gpu", 1, "torch sees no GPU"),
        ("gpu --parts latency,dancing", 2, "no dancing; choose of latency"),
        ("gpu --seconds 0", 2, "--seconds: '0' is no whole number"),
        ("gpu --people 10,0", 2, "--people: '0' is no whole number"),
        ("gpu --people 33", 2, "--people: 32 at the most"),
        ("gpu --inductor split_reductions", 2, "no NAME=VALUE"),
        ("gpu --fuse maybe", 2, "--fuse: invalid choice"),
        ("roofline --runs 0", 2, "--runs: '0' is no whole number"),
        ("roofline --people 0", 2, "--people: '0' is no whole number"),
        ("roofline --people 300", 2, "--people 300: 256 at the most"),
        ("roofline --size 640", 2, "--size '640': give width x height"),
        ("roofline --backend foo", 2, "--backend 'foo'"),
        ("scaling --runs 0", 2, "--runs: '0' is no whole number"),
        ("scaling --backend foo", 2, "--backend 'foo'"),
        ("scaling --device cuda", 1, "torch sees no GPU"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    code: int,
    pattern: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    name, *options = words.split()
    ended, told = call(name, *options, "--output", tmp_path / "new")
    assert ended == code
    assert told.splitlines()[-1].startswith(f"{name}.py: ")
    assert pattern in told.splitlines()[-1]
    assert "Traceback" not in told


@pytest.mark.parametrize("name", ["roofline", "scaling"])
def test_what_cannot_be_written_is_told_first(call: Call, tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.json").mkdir()
    ended, told = call(name, "--output", tmp_path)
    assert (ended, len(told.splitlines())) == (1, 1)
    assert "it is a folder" in told


def test_scaling_keeps_what_was_measured(
    call: Call, scaling: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure(pipeline: object, size: object, people: int, runs: int) -> Latency:
        assert pipeline.config.second_look == "off"  # type: ignore[attr-defined]
        if people == scaling.PEOPLE[2]:
            raise KeyboardInterrupt
        return Latency(3.0, 4.0, 5.0, 300.0, runs, people, 1.0, {})

    monkeypatch.setattr(scaling, "measure", measure)
    ended = call("scaling", "--output", tmp_path, "--device", "cpu")
    assert ended == (130, "scaling.py: stopped\n")
    (rows,) = json.loads((tmp_path / "scaling.json").read_text()).values()
    assert list(rows) == ["1", "2"]


def test_gpu_fails_where_a_part_fails(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = import_module("gpu")

    def fails(bench: object) -> None:
        raise ValueError("dancing")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "none")
    monkeypatch.setattr(gpu, "demo_clip", lambda **_: ())
    monkeypatch.setitem(gpu.PARTS, "copies", fails)
    ended, told = call("gpu", "--parts", "copies", "--output", tmp_path)
    assert ended == 1
    assert "dancing" in told


@pytest.mark.parametrize(("compiled", "compared"), [(True, [12, 3]), (False, None)])
def test_fused_parity_compiles_nothing(
    call: Call, compiled: bool, compared: list[int] | None
) -> None:
    gpu = import_module("gpu")

    def line(*_: object, **__: object) -> SimpleNamespace:
        detector = SimpleNamespace(find=None, detect=lambda n: SimpleNamespace(scores=range(n)))
        return SimpleNamespace(_fuser=print, _line=SimpleNamespace(_seen=[]), detector=detector)

    rows: dict[str, list[int]] = {}
    pictures = [(people, None) for people in (12, 13, 3)]  # how many are in each, in its place
    bench = SimpleNamespace(
        ready=lambda *_: compiled,
        pipeline=line,
        forced=lambda _: (line(), None),
        photos=lambda: {"photos": pictures},
        row=lambda part, name, work: rows.update({part: [each[0] for each in work.args[-1]]}),
    )
    gpu.parity(bench)
    assert rows.get("parity") == compared
