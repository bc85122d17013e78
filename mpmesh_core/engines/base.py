"""engines.base: the one interface behind which every network runs.

Named tensors in, named tensors out, on one device. Building an engine may raise; `run` trusts its
inputs' shapes (the stages check them) and returns every output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Engine(Protocol):
    """A compiled network."""

    name: str
    """Which network: detector, skeleton or refiner."""
    backend: str
    """tensorrt, torch, onnxruntime or openvino."""
    device: torch.device
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the network.

        Args:
            inputs: every name of `input_names`, on `device`, float32 unless the name says indices
                or a mask. The leading dimension is the batch and may change from call to call.

        Returns:
            Every name of `output_names`, on `device`, float32.
        """
        ...
