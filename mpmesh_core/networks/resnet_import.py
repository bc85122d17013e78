"""resnet_import: ResNet weights of others into the `paper` skeleton network.

In   a PyTorch checkpoint: torchvision's ResNet-50 or 34, or a HybrIK with one (its layers lie
     under `preact.`)
Out  a skeleton network whose backbone has them, heads as new, and an ImportReport

Both were trained on pictures in 0..1, minus a mean and divided by a deviation a channel; ours takes
-1..1. The first convolution and the running mean after it take that up, so features are those of
the original, except that ours pads pictures with mid-grey instead of that mean. The last stride is
centred (see `resnet`): same kernels, on cells one further right and down.

A checkpoint is only ever read as tensors; whatever else its pickle asks for is refused.
"""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mpmesh_core.errors import MissingFileError, UsageError, WeightsError
from mpmesh_core.networks.resnet import Layout, Residual, ResNet
from mpmesh_core.networks.skeleton import SkeletonConfig, SkeletonNetwork

Kind = Literal["resnet50", "hybrik"]
_PREFIX = {"resnet50": "", "hybrik": "preact."}
# (mean, deviation) of R, G, B in 0..1. HybrIK has ImageNet's figures in the order of B, G, R.
_NORMALISATION = {
    "resnet50": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "hybrik": ((0.406, 0.457, 0.480), (0.225, 0.224, 0.229)),
}
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_COUNTER = "num_batches_tracked"  # older files lack it, and nothing depends on it
# What unpickling damaged or foreign bytes may raise.
_UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, RuntimeError, ValueError,
    TypeError, LookupError, AttributeError, AssertionError, ImportError, MemoryError,
    ArithmeticError, OSError,
)  # fmt: skip


@dataclass
class ImportReport:
    """What became of the tensors of a file."""

    matched: list[str] = field(default_factory=list)  # names in the file
    missing: list[str] = field(default_factory=list)  # that the file should have
    differ: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    """Name -> (shape in the file, shape of ours)."""
    left: dict[str, int] = field(default_factory=dict)  # part of the file -> tensors not used

    @property
    def complete(self) -> bool:
        """Whether the whole backbone was found."""
        return not (self.missing or self.differ)


def import_backbone(path: Path, kind: Kind) -> tuple[SkeletonNetwork, ImportReport]:
    """A new `paper` skeleton network with the backbone of a checkpoint.

    Args:
        path: the file.
        kind: whose layout it has.

    Returns:
        The network, to be trained from there, and the report; where that is not complete, the
        backbone holds what fitted and is of no use.

    Raises:
        MissingFileError, WeightsError: no such file, no checkpoint, or one of another network.
        UsageError: an unknown kind.
    """
    if kind not in get_args(Kind):
        raise UsageError(f"--kind {kind!r} is unknown; choose {' or '.join(get_args(Kind))}")
    state = read_state(path)
    layout = _layout_of(path, state, kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same file, the same heads
        network = SkeletonNetwork(SkeletonConfig(variant="paper", backbone=layout))
    assert isinstance(network.backbone, ResNet)
    report = _fill(network.backbone, state, kind)
    for name in report.matched:
        _check_values(path, name, state[name])
    return network.eval(), report


def read_state(path: Path) -> dict[str, Tensor]:
    """Named tensors of a PyTorch checkpoint, unwrapped.

    Raises:
        MissingFileError, WeightsError: no such file, or no checkpoint.
    """
    if not path.is_file():
        raise MissingFileError(f"no weights file {path}: check the path")
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what the error says, or what doesn't matter
            content = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except _UNREADABLE as error:
        said = str(error).split("WeightsUnpickler error:")[-1].strip()  # torch's advice is before
        lines = [] if isinstance(error, KeyError) else said.splitlines()  # a key says nothing
        reason = f" ({lines[0][:120]})" if lines else ""
        raise WeightsError(f"{path} is no readable PyTorch checkpoint{reason}") from None
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    return _named_tensors(path, content)


def _check_archive(path: Path) -> None:
    """PyTorch stores tensors as they are, with checksums that it does not look at.

    Raises:
        WeightsError: compressed, or changed since it was written.
    """
    with zipfile.ZipFile(path) as archive:
        items = archive.infolist()
        packed = any(item.compress_type != zipfile.ZIP_STORED for item in items)
        if packed or sum(item.file_size for item in items) > path.stat().st_size:
            raise WeightsError(
                f"{path} is a compressed archive, no PyTorch checkpoint: unpack it first"
            )
        broken = archive.testzip()
    if broken is not None:
        raise WeightsError(f"{path} is damaged: {broken} has another checksum; get the file anew")


def _check_values(path: Path, name: str, value: Tensor) -> None:
    """What a tensor of a trained network holds.

    Raises:
        WeightsError: something else.
    """
    if name.endswith(_COUNTER):
        return
    if not value.is_floating_point():
        raise WeightsError(f"{path}: {name} holds {value.dtype}, not floating-point numbers")
    if not value.float().isfinite().all():
        raise WeightsError(f"{path}: {name} holds NaN or infinity")
    if name.endswith("running_var") and (value < 0).any():
        raise WeightsError(f"{path}: {name} holds variances below 0")


def _named_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not named tensors")
    state = {str(n).removeprefix("module."): v for n, v in content.items() if torch.is_tensor(v)}
    if not state:
        raise WeightsError(f"{path} holds no named tensors: give a checkpoint of the weights")
    return state


def _layout_of(path: Path, state: Mapping[str, Tensor], kind: Kind) -> Layout:
    """Which ResNet a file holds.

    Raises:
        WeightsError: none of this kind, saying what it holds where that can be told.
    """
    prefix = _PREFIX[kind]
    other: Kind = "hybrik" if kind == "resnet50" else "resnet50"
    if f"{prefix}conv1.weight" not in state:
        if f"{_PREFIX[other]}conv1.weight" in state:
            raise WeightsError(f"{path} has the layout of --kind {other}, not {kind}")
        raise WeightsError(f"{path} holds no {prefix}conv1.weight: it is no {kind} checkpoint")
    bottleneck = f"{prefix}layer1.0.conv3.weight" in state
    if any(name.startswith((f"{prefix}stage2.", f"{prefix}transition1.")) for name in state):
        holds = "an HRNet"
    elif f"{prefix}layer3.6.conv1.weight" in state:
        holds = "a ResNet-101 or 152"
    elif not bottleneck and f"{prefix}layer1.2.conv1.weight" not in state:
        holds = "a ResNet-18"
    else:
        return "resnet50" if bottleneck else "resnet34"
    raise WeightsError(f"{path} holds {holds}; the paper variant takes a ResNet-50 or 34")


def _fill(backbone: ResNet, state: Mapping[str, Tensor], kind: Kind) -> ImportReport:
    """Load what fits, adapted to our pictures."""
    report, prefix = ImportReport(), _PREFIX[kind]
    own = backbone.state_dict()
    theirs = {prefix + name: ours for ours, name in official_names(backbone).items()}
    found: dict[str, Tensor] = {}
    for name, ours in theirs.items():
        if name not in state:
            if not name.endswith(_COUNTER):
                report.missing.append(name)
        elif state[name].shape != own[ours].shape:
            report.differ[name] = tuple(state[name].shape), tuple(own[ours].shape)
        else:
            report.matched.append(name)
            found[ours] = state[name].to(own[ours].dtype)
    for name in state:
        if name not in theirs:
            part = name.split(".")[1 if prefix and name.startswith(prefix) else 0]
            report.left[part] = report.left.get(part, 0) + 1
    backbone.load_state_dict(own | found)
    _take_up_normalisation(backbone, *_NORMALISATION[kind])
    return report


def official_names(backbone: ResNet) -> dict[str, str]:
    """Names of our tensors -> names that torchvision gives to them."""
    modules: list[tuple[nn.Module, str]] = [(backbone.stem[0], "conv1"), (backbone.stem[1], "bn1")]
    for number, stage in enumerate(backbone.stages, 1):
        for place, block in enumerate(stage.children()):
            assert isinstance(block, Residual)
            where = f"layer{number}.{place}"
            modules += _named(block.layers, where, "conv{}", "bn{}", first=1)
            modules += _named(block.shortcut, f"{where}.downsample", "{}", "{}", first=0)
    known = {id(module): name for module, name in modules}
    return {
        f"{path}.{tensor}": f"{known[id(module)]}.{tensor}"
        for path, module in backbone.named_modules()
        if id(module) in known
        for tensor in module.state_dict()
    }


def _named(
    layers: nn.Module, where: str, conv: str, norm: str, first: int
) -> list[tuple[nn.Module, str]]:
    """Convolutions and norms in their order; a shortcut's norm counts on after its convolution."""
    convs = [m for m in layers.children() if isinstance(m, nn.Conv2d)]
    norms = [m for m in layers.children() if isinstance(m, nn.BatchNorm2d)]
    shift = 1 - first
    named = [(m, f"{where}.{conv.format(n)}") for n, m in enumerate(convs, first)]
    return named + [(m, f"{where}.{norm.format(n + shift)}") for n, m in enumerate(norms, first)]


@torch.no_grad()
def _take_up_normalisation(
    backbone: ResNet, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> None:
    """Make the first layer, meant for (x - mean) / deviation of x in 0..1, fit 2 x - 1."""
    conv, norm = backbone.stem[0], backbone.stem[1]
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    centre, scale = (torch.tensor(values, dtype=torch.float64) for values in (mean, deviation))
    weight = conv.weight.double()
    offset = ((0.5 - centre) / scale)[:, None, None] * weight
    conv.weight.copy_(weight * (0.5 / scale)[:, None, None])
    assert norm.running_mean is not None
    norm.running_mean.sub_(offset.sum((1, 2, 3)))
