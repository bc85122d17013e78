"""engines.tensorrt: a built engine run by TensorRT, on tensors where they are.

Inputs and outputs are torch tensors bound by address, on the caller's stream: nothing is copied and
nothing waits, so a CUDA graph can hold a run once its shapes have run before. Works with TensorRT
10 and 11; building is `tensorrt_build`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mpmesh_core.errors import DeviceError, MissingPackageError, UsageError, first_line

OLDEST = 10  # major version; 8 knows no strongly typed networks


def import_tensorrt() -> ModuleType:
    """The bindings.

    Raises:
        MissingPackageError: they are not installed, too old, or cannot be loaded.
    """
    try:
        import tensorrt

        version = str(tensorrt.__version__)
    except Exception as error:  # libraries and drivers that do not fit raise almost anything
        absent = isinstance(error, ModuleNotFoundError) and error.name == "tensorrt"
        raise MissingPackageError(
            "backend tensorrt needs the package tensorrt; install it with `pip install tensorrt`, "
            "on Jetson with JetPack, or use --backend torch"
            if absent
            else f"the package tensorrt is installed, but cannot be loaded ({first_line(error)}); "
            "mend it, or use --backend torch"
        ) from error
    if int(version.partition(".")[0]) < OLDEST:
        raise MissingPackageError(
            f"backend tensorrt needs TensorRT {OLDEST} or newer, this is {version}; update it, on "
            "Jetson with JetPack, or use --backend torch"
        )
    return tensorrt


class TensorRTEngine:
    """See `engines.base.Engine`."""

    backend = "tensorrt"

    def __init__(self, name: str, plan: bytes, device: torch.device, trt: ModuleType) -> None:
        """Open a built engine.

        Args:
            name: which network it is, for messages.
            plan: as `tensorrt_build.build_plan` made it on this GPU.
            device: a CUDA device.
            trt: the bindings.

        Raises:
            DeviceError: TensorRT does not take the plan.
        """
        self.name, self.device = name, device
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))  # has to outlive its engines
        with torch.cuda.device(device):
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        if not self._engine:
            raise DeviceError(
                f"TensorRT cannot load the {name} engine on {device}: build it anew with "
                "`mpmesh engine build --force`, or use --backend torch"
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self._types = {
            name: _torch_type(self._engine.get_tensor_dtype(name), trt) for name in names
        }
        ins = [self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names]
        self.input_names = tuple(name for name, is_in in zip(names, ins) if is_in)
        self.output_names = tuple(name for name, is_in in zip(names, ins) if not is_in)
        self._contexts: dict[Hashable, Any] = {}  # by shapes of the inputs

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `engines.base.Engine.run`.

        Raises:
            UsageError: a batch or a picture larger than the engine was built for.
            DeviceError: no memory for these shapes, or TensorRT reports that the run failed.
        """
        bound = {
            name: inputs[name].to(self.device, self._types[name]).contiguous()
            for name in self.input_names
        }
        context = self._context(bound)
        outputs = {
            name: torch.empty(
                tuple(context.get_tensor_shape(name)), dtype=self._types[name], device=self.device
            )
            for name in self.output_names
        }
        for name, value in (bound | outputs).items():
            context.set_tensor_address(name, value.data_ptr())
        stream = torch.cuda.current_stream(self.device).cuda_stream
        if not context.execute_async_v3(stream):
            raise DeviceError(
                f"TensorRT could not run the {self.name} engine on {self.device}: see its messages "
                "above, or use --backend torch"
            )
        return {name: value.float() for name, value in outputs.items()}

    def _context(self, inputs: Mapping[str, Tensor]) -> Any:
        """The execution context for inputs of these shapes.

        Each has its own, kept for good: a graph may hold runs of a context only as long as its
        shapes stay.
        """
        key = tuple(tuple(value.shape) for value in inputs.values())
        if key in self._contexts:
            return self._contexts[key]
        with torch.cuda.device(self.device):
            context = self._engine.create_execution_context()
        if not context:
            raise DeviceError(
                f"TensorRT has no memory to run the {self.name} engine on {self.device}: lower "
                "--max-people, or use --backend torch"
            )
        for name, shape in zip(inputs, key):
            if not context.set_input_shape(name, shape):
                raise UsageError(
                    f"the {self.name} engine was not built for {name} of shape {shape}; build one "
                    "with a larger --max-people"
                )
        self._contexts[key] = context
        return context


def _torch_type(kind: Any, trt: ModuleType) -> torch.dtype:
    return {
        trt.DataType.FLOAT: torch.float32,
        trt.DataType.HALF: torch.float16,
        trt.DataType.INT32: torch.int32,
        trt.DataType.INT64: torch.int64,
        trt.DataType.BOOL: torch.bool,
    }[kind]
