"""engines.openvino: an exported network run by OpenVINO on the CPU.

A network is compiled for one shape of inputs at a time, when it first comes up (0.1 to 0.5 s): with
free shapes most of what OpenVINO gains over ONNX Runtime is lost.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.engines.onnx_cache import Names, refuse_other_network
from mpmesh_core.errors import MissingPackageError, WeightsError, first_line
from mpmesh_core.types import Array

Shapes = tuple[tuple[int, ...], ...]  # of the inputs, in their order

KEPT = 8
"""Shapes of a network that stay compiled, those used last: 15 to 45 MB each (`light`), a thread."""

PIECES = {"skeleton": (4, 2, 1)}
"""Sizes into which batches are cut where people do not depend on one another, largest first.

So three shapes do for any number of people, where each new number would hold up a frame for half a
second. On two cores the time is that of the whole batch, within a few percent.
"""

SETTINGS = {
    # Where the CPU has bfloat16 or float16, OpenVINO takes it by itself: with bfloat16 the joints
    # of people on photos moved by 38 mm.
    "INFERENCE_PRECISION_HINT": "f32",
    # Other programs want the cores too: threads go where there is one.
    "ENABLE_CPU_PINNING": False,
    "NUM_STREAMS": 1,
}


def import_openvino() -> ModuleType:
    """The package, which tells nobody that it is used.

    Raises:
        MissingPackageError: it is not installed, or cannot be loaded.
    """
    try:
        with _no_telemetry():
            import openvino
    except ImportError as error:
        raise MissingPackageError(
            f"backend openvino cannot be used ({first_line(error)}): pip install "
            "'mpmesh[openvino]', or use --backend onnxruntime"
        ) from error
    return openvino


_MAKING = Lock()


@cache
def _make_core() -> Any:
    return import_openvino().Core()


def _core() -> Any:
    """OpenVINO itself, one for the whole process, for good.

    On CPUs with AMX each gives the thread that makes it a stack for signals, and at its end the one
    before. Where several end in another order, that one is gone: the next Ctrl-C was a crash.
    """
    with _MAKING:
        return _make_core()


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Hide a package that OpenVINO does without where it isn't installed.

    By it `import openvino` forks the process, reports to Google Analytics and writes into the
    user's home. What is imported already stays as it is.
    """
    name = "openvino_telemetry"
    if name in sys.modules or "openvino" in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's way to say: not installed
    try:
        yield
    finally:
        sys.modules.pop(name, None)


class OpenVinoEngine:
    """See `engines.base.Engine`; several threads may call `run` at the same time."""

    backend = "openvino"

    def __init__(self, name: str, onnx_path: Path, threads: int = 0) -> None:
        """Read the ONNX file of one of MPMesh's own networks; nothing is compiled yet.

        Args:
            name: detector, skeleton or refiner.
            onnx_path: the file.
            threads: CPU threads of one run; 0: as many as there are cores.

        Raises:
            MissingPackageError: there is no OpenVINO that can be used.
            WeightsError: the file is no ONNX network, or another one.
        """
        import_openvino()
        self.name = name
        self.device = torch.device("cpu")
        self.input_names, self.output_names = _own_names(name, onnx_path)
        try:
            self._model = _core().read_model(onnx_path)
        except Exception as error:  # the bindings raise many kinds, none with a common base
            raise WeightsError(
                f"{name} network {onnx_path} is not usable: {_reason(error)}"
            ) from error
        self._types = [port.get_element_type().to_dtype() for port in self._model.inputs]
        self._settings = SETTINGS | {"INFERENCE_NUM_THREADS": threads}
        self._idle: OrderedDict[Shapes, list[Any]] = OrderedDict()  # compiled, used last at the end
        self._lock = Lock()

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `engines.base.Engine.run`.

        Raises:
            WeightsError: OpenVINO cannot run the network on such inputs.
        """
        if not all(inputs[name].numel() for name in self.input_names):
            # OpenVINO would write over other memory.
            raise WeightsError(f"{self.name} network cannot be run: an input is empty")
        arrays = [
            np.ascontiguousarray(inputs[name].numpy(), kind)
            for name, kind in zip(self.input_names, self._types)
        ]
        try:
            found = [self._infer(piece) for piece in self._pieces(arrays)]
        except Exception as error:  # as above
            raise WeightsError(f"{self.name} network cannot be run: {_reason(error)}") from error
        joined = (torch.cat([torch.from_numpy(part) for part in parts]) for parts in zip(*found))
        return dict(zip(self.output_names, joined))

    def _pieces(self, arrays: list[Array]) -> Iterator[list[Array]]:
        """The inputs in one piece, or cut along the batch."""
        start, rest = 0, len(arrays[0])
        for size in PIECES.get(self.name, ()):
            while rest >= size:
                yield [array[start : start + size] for array in arrays]
                start, rest = start + size, rest - size
        if not start:
            yield arrays

    def _infer(self, arrays: list[Array]) -> list[Array]:
        """Outputs in their order, the caller's own."""
        shapes = tuple(array.shape for array in arrays)
        request = self._take(shapes)
        found = request.infer(dict(enumerate(arrays)), share_inputs=True)
        outputs = [found[index] for index in range(len(found))]
        self._give_back(shapes, request)
        return outputs

    def _take(self, shapes: Shapes) -> Any:
        """The network compiled for inputs of these shapes, nobody else's for now.

        Each thread that runs has one of its own. OpenVINO's streams, one network for many threads,
        gave a seventh fewer frames a second with a frame a core.
        """
        with self._lock:
            if self._idle.get(shapes):
                return self._idle[shapes].pop()
            model = self._model.clone()
        return self._compile(model, shapes)

    def _compile(self, model: Any, shapes: Shapes) -> Any:
        model.reshape(dict(enumerate(map(list, shapes))))
        return _core().compile_model(model, "CPU", self._settings).create_infer_request()

    def _give_back(self, shapes: Shapes, request: Any) -> None:
        with self._lock:
            self._idle.setdefault(shapes, []).append(request)
            self._idle.move_to_end(shapes)
            if len(self._idle) > KEPT:
                self._idle.popitem(last=False)


def _own_names(name: str, onnx_path: Path) -> tuple[Names, Names]:
    """Inputs and outputs of an ONNX file, in their order.

    OpenVINO gives a tensor that is two outputs both names at both, and tries a file that is no
    ONNX with every format that it knows, aloud.

    Raises:
        WeightsError: the file is no ONNX network, or another one.
    """
    import onnx

    try:
        graph = onnx.load(onnx_path).graph
    except Exception as error:  # as above
        reason = first_line(error)
        raise WeightsError(f"{name} network {onnx_path} is not usable: {reason}") from error
    inputs, outputs = (tuple(each.name for each in ports) for ports in (graph.input, graph.output))
    refuse_other_network(name, onnx_path, inputs, outputs)
    return inputs, outputs


def _reason(error: Exception) -> str:
    """The last line, which says most: those before name places in OpenVINO's own code."""
    return (str(error).strip() or repr(error)).splitlines()[-1]
