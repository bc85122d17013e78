"""engines.torch: a checkpoint run by torch itself, on the CPU or on CUDA.

On CUDA the network runs in half precision and channels-last; heads that need float32 (softmax of
the heatmaps) cast themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mpmesh_core.engines.half import make_half


class TorchEngine:
    """See `engines.base.Engine`."""

    backend = "torch"

    def __init__(self, name: str, network: nn.Module, device: torch.device) -> None:
        self.name = name
        self.device = device
        self.input_names: tuple[str, ...] = tuple(network.INPUT_NAMES)  # type: ignore[arg-type]
        self.output_names: tuple[str, ...] = tuple(network.OUTPUT_NAMES)  # type: ignore[arg-type]
        self._half = device.type == "cuda"
        self._network = network.eval()
        if self._half:
            make_half(self._network)
            # What is kept in float32 means it: TF32 rounds as float16 does. NVIDIA's containers
            # and other parts of a program may have it on for matrix products too.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        self._network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `engines.base.Engine.run`."""
        with torch.autocast(self.device.type, torch.float16, enabled=self._half):
            outputs = self._network(*(inputs[name] for name in self.input_names))
        return {name: outputs[name].float() for name in self.output_names}
