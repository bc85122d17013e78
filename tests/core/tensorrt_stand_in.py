"""A stand-in for the TensorRT bindings: the names that MPMesh uses, and no others.

It builds "plans" that hold the ONNX file, and runs them with ONNX Runtime on the memory at the
addresses it is given. `NAMES` is what the real bindings of TensorRT 10.16 and 11.4 both have.
"""

from __future__ import annotations

import ctypes
import enum
import math
import pickle
from typing import Any

import numpy as np
import onnxruntime

__version__ = "11.4.0"

NAMES = {
    "Builder": {
        "build_serialized_network", "create_builder_config", "create_network",
        "create_optimization_profile",
    },
    "BuilderFlag": {"TF32"},
    "DataType": {"BOOL", "FLOAT", "HALF", "INT32", "INT64"},
    "IBuilderConfig": {
        "add_optimization_profile", "clear_flag", "create_timing_cache", "get_timing_cache",
        "progress_monitor", "set_memory_pool_limit", "set_timing_cache",
    },
    "ICudaEngine": {
        "create_execution_context", "get_tensor_dtype", "get_tensor_mode", "get_tensor_name",
        "num_io_tensors",
    },
    "IExecutionContext": {
        "execute_async_v3", "get_tensor_shape", "set_input_shape", "set_tensor_address",
    },
    "INetworkDefinition": set(),
    "IOptimizationProfile": {"set_shape"},
    "IProgressMonitor": {"phase_finish", "phase_start", "step_complete"},
    "ITimingCache": {"serialize"},
    "Logger": {"WARNING"},
    "MemoryPoolType": {"WORKSPACE"},
    "NetworkDefinitionCreationFlag": {"STRONGLY_TYPED"},
    "OnnxParser": {"get_error", "num_errors", "parse_from_file"},
    "ParserError": {"desc"},
    "Runtime": {"deserialize_cuda_engine"},
    "TensorIOMode": {"INPUT"},
}  # fmt: skip

builds: list[str] = []  # files built so far
messages: list[str] = []  # what the logger's owner did


class DataType(enum.Enum):
    FLOAT = "tensor(float)"
    HALF = "tensor(float16)"
    INT32 = "tensor(int32)"
    INT64 = "tensor(int64)"
    BOOL = "tensor(bool)"


_NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.BOOL: np.bool_,
}


class TensorIOMode(enum.Enum):
    INPUT = 1
    _OUTPUT = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    TF32 = 7


class Logger:
    WARNING = 2

    def __init__(self, severity: int) -> None:
        assert severity == Logger.WARNING


class IProgressMonitor:
    def __init__(self) -> None:
        messages.append("monitor")

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None: ...

    def step_complete(self, phase_name: str, step: int) -> bool: ...

    def phase_finish(self, phase_name: str) -> None: ...


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple] = {}

    def set_shape(self, input: str, min: tuple, opt: tuple, max: tuple) -> None:
        assert all(low <= mid <= high for low, mid, high in zip(min, opt, max))
        self._shapes[input] = (min, max)


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytearray:
        return bytearray(self._content + b"+")


class IBuilderConfig:
    progress_monitor: Any = None
    _cleared: BuilderFlag | None = None  # TensorRT rounds float32 to TF32 unless told otherwise

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        assert pool_size > 0

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._cleared = flag

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profile = profile
        return 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        damaged = serialized_timing_cache == b"damaged"
        return None if damaged else ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._content.startswith(b"foreign"):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache:
        return self._cache


class INetworkDefinition:
    _onnx = b""


class ParserError:
    def desc(self) -> str:
        return "no such operator"


class OnnxParser:
    num_errors = 0

    def __init__(self, network: INetworkDefinition, logger: Logger) -> None:
        self._network = network

    def parse_from_file(self, model: str) -> bool:
        with open(model, "rb") as file:
            self._network._onnx = file.read()
        if self._network._onnx.startswith(b"unreadable"):
            self.num_errors = 1
        else:
            builds.append(model)
        return not self.num_errors

    def get_error(self, index: int) -> ParserError:
        return ParserError()


class Builder:
    def __init__(self, logger: Logger) -> None: ...

    def create_network(self, flags: int) -> INetworkDefinition:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> bytearray | None:
        assert config._cleared is BuilderFlag.TF32
        monitor = config.progress_monitor
        monitor.phase_start("Building", None, 2)
        for step in range(2):
            if not monitor.step_complete("Building", step):
                return None
        monitor.phase_finish("Building")
        return bytearray(pickle.dumps((network._onnx, config._profile._shapes)))


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._output_shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._ran = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        # a CUDA graph that holds a run of this context would compute with the old shapes
        assert not self._ran or self._shapes[name] == shape, "shapes change after a run"
        low, high = self._engine._profile[name]
        self._shapes[name] = shape
        return all(a <= size <= b for a, size, b in zip(low, shape, high))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        zeros = {
            key: np.zeros(shape, _NUMPY[self._engine.get_tensor_dtype(key)])
            for key, shape in self._shapes.items()
        }
        self._shapes[name] = self._engine._session.run([name], zeros)[0].shape
        shape = self._shapes.pop(name)
        self._output_shapes[name] = shape
        return shape

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._ran = True
        shapes = self._shapes | self._output_shapes
        arrays = {name: self._at(name, shape) for name, shape in shapes.items()}
        feed = {name: arrays[name] for name in self._shapes}
        names = list(self._output_shapes)
        for name, value in zip(names, self._engine._session.run(names, feed)):
            arrays[name][...] = value
        return True

    def _at(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        kind = np.dtype(_NUMPY[self._engine.get_tensor_dtype(name)])
        size = kind.itemsize * math.prod(shape)
        memory = (ctypes.c_char * size).from_address(self._addresses[name])
        return np.frombuffer(memory, kind).reshape(shape)


class ICudaEngine:
    def __init__(self, plan: bytes) -> None:
        onnx, self._profile = pickle.loads(plan)
        self._session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        ins, outs = self._session.get_inputs(), self._session.get_outputs()
        self._types = {entry.name: DataType(entry.type) for entry in (*ins, *outs)}
        self._inputs = {entry.name for entry in ins}
        self.num_io_tensors = len(self._types)

    def get_tensor_name(self, index: int) -> str:
        return list(self._types)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._types[name]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode._OUTPUT

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)


class Runtime:
    def __init__(self, logger: Logger) -> None: ...

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        return None if serialized_engine == b"rubbish" else ICudaEngine(serialized_engine)
