"""fusing: a step of the line as few large kernels, where torch would start many small ones.

On a GPU the line is many kernels of two or three microseconds, most of them around a few numbers a
person. A step is traced once for the shapes of its inputs, and Inductor writes kernels that do what
lay between two matrix products or convolutions at once. Compiling takes from seconds to a minute a
step; what it made is kept on disk, see `cache_folder`.

A step must not depend on the numbers in its tensors (no branch, no shape), like everything on a
GPU's line. Everything else that it depends on belongs into its key. What it returns lies in memory
in one way, so that a step is the same whether those before it were fused or not.
"""

from __future__ import annotations

import copyreg
import logging
import os
import pkgutil
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from mpmesh_core.crop import CropCameras
from mpmesh_core.engines.onnx_cache import cache_folder
from mpmesh_core.errors import MPMeshError, first_line
from mpmesh_core.ik import IKResult
from mpmesh_core.tensor_detector import Found
from mpmesh_core.types import Bodies, Skeletons

logger = logging.getLogger(__name__)

# A matrix product with such an inner side is written as a sum, which fuses with what is around it:
SHORT_SUM, LONG_SUM = 4, 64  # always, and where there are few terms in all
FEW = 2**17
# It is left a product where it has more terms than the first of these and fewer than the second:
# Inductor would write such a sum out, with all that makes each of its terms: 29 us where `stand`
# weighs 24 joints for each keypoint. Longer sums are loops over what is in memory.
WRITTEN_OUT = 16, 26
# A convolution of single channels with at most so many products is a sum too. On an H200 it took
# about 1 us for each million of them while weights were read one by one; a library's takes about
# 8 us, and a kernel before and one after it. Read side by side, as now, half of that is expected:
# counted in the compiled code, not measured.
FEW_PRODUCTS = 16_000_000
SMALL_CONSTANT = 2**16  # numbers: up to here what is computed once may take more room than before

_OPTIONS: dict[str, Any] = {
    "realize_acc_reads_threshold": 64,  # sums over windows of 5x5 cells stay in one kernel,
    "unroll_reductions_threshold": WRITTEN_OUT[1],  # written out
    "shape_padding": False,  # would try every product twice
    "max_pointwise_cat_inputs": 64,  # `pack` is one kernel, not one a field
}
_QUICK = {"triton.autotune_pointwise": False}  # one size of blocks a kernel, not two to six,
SMALL_STEP = 2**20  # where no tensor has more numbers: compiles in about half the time
MOST_STEPS = 256  # from then on they are dropped between two frames

Step = Callable[..., Any]
Options = Mapping[str, Any]  # of `torch._inductor.config`
Compiled = Callable[..., list[Tensor]]

if not hasattr(pytree, "register_dataclass"):
    raise ImportError("this torch cannot trace dataclasses")
for _kind in (CropCameras, Found, IKResult, Bodies, Skeletons):
    pytree.register_dataclass(_kind)
# Inductor finds on disk what was made for the same pickled inputs. Pickle names a memory format by
# the first module that has imported torch, so every program and process would look for another.
copyreg.pickle(
    torch.memory_format, lambda kind: (pkgutil.resolve_name, (str(kind).replace(".", ":"),))
)


class Fuser:
    """Runs steps of the line, each compiled the first time that its key and shapes come up.

    Where a step cannot be compiled, one warning says so and it runs as it is.
    """

    def __init__(self, options: Options | None = None) -> None:
        """Take options of Inductor that differ from ours."""
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
        self.seconds: dict[str, float] = {}  # that compiling took, by step, all its shapes together
        self.failed: set[str] = set()  # steps that run as they are
        self.options = options or {}
        self._steps: dict[Hashable, Step] = {}

    def __call__(self, name: str, key: Hashable, step: Step, *inputs: Any) -> Any:
        """What `step` returns for these inputs.

        Args:
            name: of the step, for messages.
            key: the same only for steps that do the same with the same inputs.
            step: a function of tensors, and of tuples, dictionaries and the line's dataclasses of
                tensors; what it returns is made of the same.
            inputs: not changed by it.
        """
        leaves, structure = pytree.tree_flatten(inputs)
        full = name, key, structure, tuple(map(_description, leaves))
        if full not in self._steps:
            self._steps[full] = self._compiled(name, step, inputs)
        return in_one_way(self._steps[full](*inputs))

    @property
    def full(self) -> bool:
        """Whether it is time to `forget`: pictures of ever new sizes would fill the memory."""
        return len(self._steps) >= MOST_STEPS

    def forget(self) -> None:
        """Drop the compiled steps, whose constants recorded graphs read: forget those before."""
        self._steps.clear()

    def _compiled(self, name: str, step: Step, inputs: tuple[Any, ...]) -> Step:
        start = time.perf_counter()
        try:
            fused = fuse(step, inputs, self.options)
            fused(*inputs)
        except (torch.cuda.OutOfMemoryError, MPMeshError):
            raise
        except Exception as error:  # of a compiler that may be missing
            kind = type(error).__name__
            logger.warning("%s is not fused: %s: %s", name, kind, first_line(error))
            logger.debug("while fusing %s", name, exc_info=True)
            fused = step
            self.failed.add(name)
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        logger.info("fused %s in %.1f s", name, seconds)
        return fused


def fuse(step: Step, inputs: tuple[Any, ...], options: Options | None = None) -> Step:
    """Compile a step for inputs of these shapes; see `Fuser`."""
    from torch._guards import TracingContext, tracing
    from torch._inductor.compile_fx import compile_fx
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    step(*inputs)  # makes its constants, which must not become part of the trace
    leaves, structure = pytree.tree_flatten(inputs)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    returned: list[Any] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        filled = list(leaves)
        for place, tensor in zip(places, tensors):
            filled[place] = tensor
        result = in_one_way(step(*pytree.tree_unflatten(filled, structure)))
        outputs, shape = pytree.tree_flatten(result)
        returned[:] = [shape, [None if isinstance(x, Tensor) else x for x in outputs]]
        return [x for x in outputs if isinstance(x, Tensor)]

    with torch.inference_mode(False), torch.no_grad():
        examples = [_example(leaves[place]) for place in places]
        graph = make_fx(flat, decomposition_table=_decompositions())(*examples)
        fold_constants(graph)
        used = drop_unused_inputs(graph)
        places, examples = [places[i] for i in used], [examples[i] for i in used]
        devices = {example.device for example in examples}
        constants = lift_constants(graph, devices.pop() if len(devices) == 1 else None)
        # Inductor keeps on disk only what it compiled for tensors of a mode with shapes.
        mode = FakeTensorMode(shape_env=ShapeEnv())
        fakes = [mode.from_tensor(x, static_shapes=True) for x in (*constants, *examples)]
        with tracing(TracingContext(mode)):
            ours = _OPTIONS | (_QUICK if _largest(graph) <= SMALL_STEP else {})
            patches = ours | dict(options or {})
            compiled = cast(Compiled, compile_fx(graph, fakes, config_patches=patches))
    shape, others = returned

    def fused(*inputs: Any) -> Any:
        given = pytree.tree_leaves(inputs)
        tensors = [_plain(given[place]) for place in places]
        outputs = iter(compiled(*constants, *tensors))
        return pytree.tree_unflatten([next(outputs) if x is None else x for x in others], shape)

    return fused


def in_one_way(result: Any) -> Any:
    """What a step returns, with every tensor's numbers in the order of its dimensions."""
    # Strides of dimensions with one place only may be anything for torch: `view` sets them.
    return pytree.tree_map_only(Tensor, lambda x: x.contiguous().flatten().view(x.shape), result)


def drop_unused_inputs(graph: fx.GraphModule) -> list[int]:
    """Take inputs that nothing reads out of a graph, in place; returns the places of the others.

    So steps that are the same but for those are compiled once.
    """
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    used = [place for place, node in enumerate(inputs) if node.users]
    for node in inputs:
        if not node.users:
            graph.graph.erase_node(node)
    graph.recompile()
    return used


def fold_constants(graph: fx.GraphModule) -> None:
    """Hold what depends on held tensors only, in place: casts of weights are computed once.

    What would take more room than what it is made of stays in the graph, and so does what is
    written to.
    """
    written = _written(graph)
    values: dict[fx.Node, Tensor] = {}
    for node in graph.graph.nodes:
        if node in written:
            continue
        sizes = [values[x].numel() for x in node.all_input_nodes if x in values]
        if node.op == "get_attr":
            values[node] = getattr(graph, str(node.target)).detach()
        elif node.op == "call_function" and 0 < len(sizes) == len(node.all_input_nodes):
            value = node.target(*map_arg(node.args, values.get), **map_arg(node.kwargs, values.get))
            if isinstance(value, Tensor) and value.numel() <= max(sum(sizes), SMALL_CONSTANT):
                values[node] = _plain(value)
    for place, (node, value) in enumerate(values.items()):
        if node.op == "call_function" and not all(user in values for user in node.users):
            graph.register_buffer(f"folded_{place}", value)
            with graph.graph.inserting_before(node):
                node.replace_all_uses_with(graph.graph.get_attr(f"folded_{place}"))
    for node in reversed(values):
        if not node.users:
            graph.graph.erase_node(node)
    graph.recompile()


def _written(graph: fx.GraphModule) -> set[fx.Node]:
    """Nodes whose tensors, or views of them, a later node writes to."""
    written: set[fx.Node] = set()
    for node in reversed(graph.graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if schema is None:  # one of several outputs: what is written to is the tensor behind them
            written.update(node.all_input_nodes if node in written else ())
            continue
        named = {argument.name: argument for argument in schema.arguments}
        given = [(named[name], value) for name, value in node.kwargs.items()]
        for argument, value in [*zip(schema.arguments, node.args), *given]:
            alias = argument.alias_info
            if isinstance(value, fx.Node) and alias and (alias.is_write or node in written):
                written |= {node, value}
    return written


def lift_constants(graph: fx.GraphModule, device: torch.device | None = None) -> list[Tensor]:
    """Make tensors that a graph holds its first inputs, in place: weights stay out of its code.

    Where a device is given, they are moved there, once: numbers from the step's code are traced as
    tensors in host memory, and a copy from there cannot be part of a CUDA graph.
    """
    first = next(iter(graph.graph.nodes))
    lifted: dict[str, fx.Node] = {}
    for node in list(graph.graph.nodes):
        if node.op != "get_attr":
            continue
        name = str(node.target)
        if name not in lifted:
            with graph.graph.inserting_before(first):
                lifted[name] = graph.graph.placeholder(f"held_{len(lifted)}")
        node.replace_all_uses_with(lifted[name])
        graph.graph.erase_node(node)
    tensors = [getattr(graph, name).detach().to(device) for name in lifted]
    graph.recompile()
    return [tensor.clone() if tensor.is_inference() else tensor for tensor in tensors]


def _largest(graph: fx.GraphModule) -> int:
    """Numbers in the largest tensor that a graph makes."""
    values = [node.meta.get("val") for node in graph.graph.nodes]
    return max((value.numel() for value in values if isinstance(value, Tensor)), default=0)


def _plain(tensor: Tensor) -> Tensor:
    """With every number in a place of its own."""
    return tensor.contiguous() if 0 in tensor.stride() else tensor


def _example(tensor: Tensor) -> Tensor:
    """A copy that lies in memory as the tensor does, made outside of inference mode."""
    tensor = _plain(tensor)
    copy = torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return copy.copy_(tensor)


def _description(leaf: Any) -> Hashable:
    """The same for inputs that one compiled step may take."""
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.device
    return leaf


def _decompositions() -> dict[Any, Callable[..., Tensor]]:
    """Small products, and convolutions of single channels, as sums: those fuse.

    Convolutions of single pixels become products of matrices.
    """
    aten = torch.ops.aten

    def bmm(a: Tensor, b: Tensor) -> Tensor:
        return (a.unsqueeze(-1) * b.unsqueeze(1)).sum(2) if _small(a, b) else NotImplemented

    def mm(a: Tensor, b: Tensor) -> Tensor:
        return (a.unsqueeze(-1) * b.unsqueeze(0)).sum(1) if _small(a, b) else NotImplemented

    def added(multiply: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        def sums(
            other: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
        ) -> Tensor:
            if not _small(a, b):
                return NotImplemented
            return beta * other + alpha * multiply(a, b)

        return sums

    return {
        aten.bmm.default: bmm,
        aten.mm.default: mm,
        aten.baddbmm.default: added(bmm),
        aten.addmm.default: added(mm),
        aten.convolution.default: _convolution,
    }


def _small(a: Tensor, b: Tensor) -> bool:
    """Whether a product (..., M, K) times (..., K, N) is worth no kernel of its own."""
    inner = a.shape[-1]
    if inner <= SHORT_SUM:
        return True
    if WRITTEN_OUT[0] < inner < WRITTEN_OUT[1]:
        return False
    return a.dtype == torch.float32 and inner <= LONG_SUM and a.numel() * b.shape[-1] <= FEW


def _convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """As kinds that are not convolutions, where that is faster."""
    if transposed or max(dilation) > 1:
        return NotImplemented
    if image.shape[1] == groups == weight.shape[0] > 1:
        return _depthwise(image, weight, bias, stride, padding)
    alone = weight.shape[2:] == (1, 1) and max(stride) == 1 and max(padding) == 0 and groups == 1
    return _pixelwise(image, weight, bias) if alone else NotImplemented


def _pixelwise(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of single pixels as a product, in float32.

    On an H200, a library's convolution took 16 to 20 us, and 5 us each to turn channels and back,
    where half precision took 2.5 us.
    """
    if image.dtype != torch.float32:
        return NotImplemented
    pixels = image.permute(0, 2, 3, 1)
    rows, factors = pixels.reshape(-1, image.shape[1]), weight.flatten(1).T
    product = rows @ factors if bias is None else torch.addmm(bias, rows, factors)
    return product.view(*pixels.shape[:3], -1).permute(0, 3, 1, 2)


def _depthwise(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """A convolution of each channel by itself as a sum of shifted images."""
    down, right = padding
    rows, columns = weight.shape[2:]
    if image.numel() * rows * columns > FEW_PRODUCTS * stride[0] * stride[1]:
        return NotImplemented
    windows = F.pad(image, (right, right, down, down)).unfold(2, rows, stride[0])
    windows = windows.unfold(3, columns, stride[1])  # (N, C, H', W', rows, columns)
    # Channels side by side, as in the image: a kernel reads several at once.
    taps = weight.float().squeeze(1).permute(1, 2, 0).contiguous().permute(2, 0, 1)
    summed = (windows.float() * taps[:, None, None]).sum((-2, -1))
    if bias is not None:
        summed = summed + bias.float().view(-1, 1, 1)
    return summed.to(image.dtype)
