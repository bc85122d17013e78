"""engines.onnxruntime: an exported network run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.engines.onnx_cache import refuse_other_network
from mpmesh_core.errors import MissingFileError, WeightsError

_TYPES = {
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
"""What an input wants, where that is not float32."""


class OnnxRuntimeEngine:
    """See `engines.base.Engine`."""

    backend = "onnxruntime"

    def __init__(self, name: str, onnx_path: Path, threads: int = 0) -> None:
        """Open an ONNX file.

        Args:
            name: which network it is, for messages.
            onnx_path: the file.
            threads: CPU threads of the session; 0 takes as many as there are cores.

        Raises:
            MissingFileError: no such file.
            WeightsError: the file is no ONNX network.
        """
        import onnxruntime

        if onnx_path.is_dir():
            raise WeightsError(f"{name} network {onnx_path} is a folder; give an .onnx file")
        if not onnx_path.is_file():
            raise MissingFileError(f"{name} network {onnx_path} does not exist")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that spin between runs would take the cores from torch's: 40 ms a frame on two.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(onnx_path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the bindings raise many kinds, none with a common base
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{name} network {onnx_path} is not usable: {reason}") from error
        self.name = name
        self.device = torch.device("cpu")
        self._types = {
            entry.name: _TYPES.get(entry.type, np.float32) for entry in self._session.get_inputs()
        }
        self.input_names = tuple(self._types)
        self.output_names = tuple(entry.name for entry in self._session.get_outputs())

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `engines.base.Engine.run`."""
        feed: dict[str, np.ndarray] = {
            name: np.ascontiguousarray(inputs[name].numpy(), kind)
            for name, kind in self._types.items()
        }
        try:
            outputs = self._session.run(self.output_names, feed)
        except Exception as error:  # as above
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{self.name} network cannot be run: {reason}") from error
        return {name: _tensor(out) for name, out in zip(self.output_names, outputs)}


def open_network(name: str, onnx_path: Path, threads: int = 0) -> OnnxRuntimeEngine:
    """The engine of one of MPMesh's own networks; arguments and errors as of the class.

    Raises:
        WeightsError: also where the file holds another network.
    """
    engine = OnnxRuntimeEngine(name, onnx_path, threads)
    refuse_other_network(name, onnx_path, engine.input_names, engine.output_names)
    return engine


def _tensor(output: np.ndarray) -> Tensor:
    """Half precision comes out as float32, as the interface says."""
    return torch.from_numpy(output.astype(np.float32) if output.dtype == np.float16 else output)
