"""Fused steps give what the steps give; what cannot be fused runs as it is; nothing is left behind
in host memory."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from mpmesh_core import fusing
from mpmesh_core.errors import ShapeError, UsageError
from mpmesh_core.fusing import Fuser, drop_unused_inputs, fold_constants, fuse, lift_constants
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.types import Bodies

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="Inductor's kernels for a CPU need g++"
)
WEIGHT = torch.arange(12.0).reshape(4, 3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")


@dataclass
class Work:
    """A step that counts how often it ran as it is."""

    runs: int = 0

    def __call__(self, rows: Tensor, bodies: Bodies) -> tuple[Bodies, dict[str, Tensor]]:
        self.runs += 1
        moved = bodies.transl.clone()
        moved[:, 2] = 7.5  # traced as a number in host memory
        return replace(bodies, betas=bodies.betas * 2, transl=moved), {"sum": rows @ WEIGHT}


def some_input() -> tuple[Tensor, Bodies]:
    rotations = torch.eye(3).repeat(2, 24, 1, 1)
    shape = torch.ones(2, 10), torch.rand(2, 3)
    return torch.rand(2, 4), Bodies(rotations, *shape, torch.rand(2, 3, 3), torch.rand(2))


@needs_compiler
@torch.inference_mode()
def test_a_fused_step_returns_what_the_step_returns() -> None:
    work, fuser = Work(), Fuser()
    first = some_input()
    fuser("work", "key", work, *first)
    traced = work.runs
    given = some_input()
    bodies, others = fuser("work", "key", work, *given)
    assert work.runs == traced  # compiled once for these shapes
    expected, numbers = Work()(*given)
    torch.testing.assert_close(bodies.transl, expected.transl)
    torch.testing.assert_close(bodies.betas, expected.betas)
    torch.testing.assert_close(others, numbers)


@torch.inference_mode()
def test_what_does_not_compile_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(step: object, inputs: object, options: object) -> None:
        raise RuntimeError("no compiler\nof any kind")

    monkeypatch.setattr(fusing, "fuse", broken)
    work, fuser = Work(), Fuser()
    with caplog.at_level(logging.WARNING, logger="mpmesh_core.fusing"):
        for _ in range(3):
            fuser("work", "key", work, *some_input())
    assert work.runs == 3 and fuser.failed == {"work"}
    assert [record.getMessage() for record in caplog.records] == [
        "work is not fused: RuntimeError: no compiler"
    ]


def test_what_is_wrong_with_the_input_is_not_blamed_on_the_compiler() -> None:
    def refusing(x: Tensor) -> Tensor:
        raise ShapeError("no such shape")

    fuser = Fuser()
    for _ in range(2):
        with pytest.raises(ShapeError, match="no such shape"):
            fuser("work", "key", refusing, torch.zeros(2))
    assert not fuser.failed


def test_constants_become_inputs_on_the_device() -> None:
    def step(x: Tensor) -> Tensor:
        y = x @ WEIGHT + x @ WEIGHT
        y[:, 0] = 3.0
        return y

    graph = make_fx(step)(torch.rand(2, 4))
    constants = lift_constants(graph, torch.device("meta"))
    assert {constant.device.type for constant in constants} == {"meta"}
    assert sum(constant.shape == WEIGHT.shape for constant in constants) == 1
    assert not [node for node in graph.graph.nodes if node.op == "get_attr"]


def test_what_depends_on_constants_only_is_computed_once() -> None:
    held = torch.rand(400, 400)

    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        large = (held[:, None] * held).sum(0)  # on the way it would take too much room
        return x @ (held.double() * 2).T, large + x

    x = torch.rand(1, 400, dtype=torch.float64)
    graph = make_fx(step)(x)
    before = len(graph.graph.nodes)
    fold_constants(graph)
    kinds = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert torch.ops.aten._to_copy.default not in kinds
    assert kinds.count(torch.ops.aten.mul.Tensor) == 1
    assert len(graph.graph.nodes) < before
    torch.testing.assert_close(graph(x), step(x))


def _into_a_slice(x: Tensor) -> Tensor:
    table = WEIGHT * 2
    table[:, 0] += x
    return table


def _into_a_part(x: Tensor) -> Tensor:
    first, second, third = WEIGHT.clone().unbind(1)
    first.add_(x)
    return first + second + third


def _into_out(x: Tensor) -> Tensor:
    table = WEIGHT.T * 2
    torch.add(table, x, out=table)
    return table


@pytest.mark.parametrize("step", [_into_a_slice, _into_a_part, _into_out])
def test_what_is_written_to_is_made_anew(step: Callable[[Tensor], Tensor]) -> None:
    graph = make_fx(step)(torch.rand(4))
    fold_constants(graph)
    for _ in range(2):
        torch.testing.assert_close(graph(torch.ones(4)), step(torch.ones(4)))


def test_steps_that_differ_in_what_they_do_not_read_are_one() -> None:
    def step(unread: Tensor, x: Tensor) -> Tensor:
        return x * 2

    codes = set()
    for width in (3, 5):
        graph = make_fx(step)(torch.zeros(1, width), torch.zeros(2))
        assert drop_unused_inputs(graph) == [1]
        assert graph(torch.ones(2)).tolist() == [2, 2]
        codes.add(graph.code)
    assert len(codes) == 1


@needs_compiler
@torch.inference_mode()
def test_inputs_that_are_not_read_may_be_given() -> None:
    def step(unread: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return y - x, x

    fused = fuse(step, (torch.zeros(4), torch.zeros(2), torch.zeros(2)))
    given = torch.rand(4), torch.rand(2), torch.rand(2)
    torch.testing.assert_close(fused(*given), step(*given))


def test_steps_are_dropped_when_asked_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded graphs read their constants, so nothing may be dropped behind their back."""
    monkeypatch.setattr(fusing, "fuse", lambda step, inputs, options: step)
    monkeypatch.setattr(fusing, "MOST_STEPS", 3)
    work, fuser = Work(), Fuser()
    for key in range(5):
        assert fuser.full == (key >= 3)
        fuser("work", key, work, *some_input())
    compiled = work.runs
    fuser("work", 0, work, *some_input())
    assert work.runs == compiled + 1  # it was still there
    fuser.forget()
    assert not fuser.full


@pytest.mark.parametrize(
    ("inner", "rows", "sums"),
    [(4, 2**16, True), (16, 8, True), (24, 8, False), (32, 8, True), (32, 2**16, False)],
)
def test_products_that_become_sums(inner: int, rows: int, sums: bool) -> None:
    """Short ones, and small ones that Inductor doesn't write out."""
    x, weight = torch.rand(rows, inner), torch.rand(inner, 3)

    def step(x: Tensor) -> Tensor:
        return x @ weight

    graph = make_fx(step, decomposition_table=fusing._decompositions())(x)
    kinds = {node.target for node in graph.graph.nodes}
    assert (torch.ops.aten.mm.default not in kinds) == sums
    torch.testing.assert_close(graph(x), step(x))


@pytest.mark.parametrize(("side", "sums"), [(6, True), (500, False)])
def test_only_small_convolutions_of_single_channels_become_sums(side: int, sums: bool) -> None:
    image, weight = torch.rand(1, 16, side, side), torch.rand(16, 1, 5, 5)
    bias = torch.rand(16)

    def step(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, stride=2, padding=2, groups=16)

    graph = make_fx(step, decomposition_table=fusing._decompositions())(image)
    kinds = {node.target for node in graph.graph.nodes}
    assert (torch.ops.aten.convolution.default not in kinds) == sums
    torch.testing.assert_close(graph(image), step(image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "stride", "products"),
    [(torch.float32, 1, True), (torch.float32, 2, False), (torch.float16, 1, False)],
)
def test_convolutions_of_single_pixels_become_products_in_float32(
    kind: torch.dtype, stride: int, products: bool, with_bias: bool
) -> None:
    image = torch.rand(2, 80, 6, 5).to(kind, memory_format=torch.channels_last)
    weight, bias = torch.rand(90, 80, 1, 1).to(kind), torch.rand(90).to(kind)

    def step(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias if with_bias else None, stride)

    graph = make_fx(step, decomposition_table=fusing._decompositions())(image)
    kinds = {node.target for node in graph.graph.nodes}
    assert (torch.ops.aten.convolution.default not in kinds) == products
    torch.testing.assert_close(graph(image), step(image), check_stride=True)


@needs_compiler
@torch.inference_mode()
def test_what_a_step_returns_lies_in_memory_in_one_way() -> None:
    """Or the next step would be another one, depending on whether this one was fused."""

    def step(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        turned = x.permute(0, 2, 3, 1)
        return turned, {"doubled": turned * 2, "one": x[:, :1].expand(-1, 3, -1, -1)}

    x = torch.rand(2, 3, 4, 5)
    results = fuse(step, (x,))(x), fusing.in_one_way(step(x))
    for turned, others in results:
        for tensor in (turned, *others.values()):
            assert tensor.is_contiguous()
    torch.testing.assert_close(*results)
    torch.testing.assert_close(results[0], step(x))


@pytest.mark.parametrize(
    "part",
    [
        lambda x: x[:, :2],
        lambda x: x.expand(1, 3, 4),
        lambda x: x.transpose(0, 1)[:, :, 1:],
        lambda x: x[0, 0, 0],
        lambda x: x[:, :0],
    ],
)
def test_dimensions_with_one_place_have_the_usual_strides(part: Callable[[Tensor], Tensor]) -> None:
    """One person's numbers may be a part of something larger, and count as contiguous."""
    given = part(torch.rand(1, 3, 4))
    found = fusing.in_one_way((given,))[0]
    assert found.stride() == torch.empty(given.shape).stride()
    assert torch.equal(found, given)


@torch.inference_mode()
def test_steps_that_run_as_they_are_return_what_fused_ones_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fusing, "fuse", None)  # calling it fails
    found = Fuser()("turn", "key", lambda x: x.T, torch.rand(3, 4))
    assert found.is_contiguous()


@needs_compiler
def test_another_process_finds_what_was_compiled(tmp_path: Path) -> None:
    """A spawned one too, where pickle sees other modules."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.stdout.split() == ["0", "1"], told.stderr


PROGRAM = """
import torch
from torch._dynamo.utils import counters

from mpmesh_core.fusing import Fuser


def compile():
    Fuser()("double", "key", lambda x: x * 2, torch.ones(4))
    return counters["inductor"]["fxgraph_cache_hit"]


if __name__ == "__main__":
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        print(pool.submit(compile).result())
    print(compile())
"""


def test_options_of_the_compiler_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import compile_fx

    seen: list[dict[str, object]] = []

    def compiled(graph: object, inputs: object, config_patches: dict[str, object]) -> object:
        seen.append(config_patches)
        return graph

    monkeypatch.setattr(compile_fx, "compile_fx", compiled)
    for options in (None, {"split_reductions": False, "shape_padding": True}):
        Fuser(options)("double", "key", lambda x: x * 2, torch.ones(2))
    ours, changed = seen
    assert "split_reductions" not in ours
    assert changed == ours | {"split_reductions": False, "shape_padding": True}


def test_fusing_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="--fuse on needs the torch backend on a GPU"):
        Pipeline(PipelineConfig(device="cpu", backend="torch", fuse="on"))


@needs_compiler
@torch.inference_mode()
def test_a_step_of_numbers_for_its_shapes_only() -> None:
    fuser = Fuser()
    double = lambda x: x * 2  # noqa: E731
    for length in (2, 3):
        x = torch.arange(float(length))
        assert fuser("double", "key", double, x).tolist() == (x * 2).tolist()
    assert fuse(double, (torch.ones(2),))(torch.ones(2)).tolist() == [2, 2]
