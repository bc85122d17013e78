"""parts: what the line is made of, loaded once for a pipeline.

In   the configuration, and what runs the networks and where
Out  detector, networks, smoother, and on a GPU the compiler of steps
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mpmesh_core.ahead import cores
from mpmesh_core.body import load_body
from mpmesh_core.configuration import PipelineConfig
from mpmesh_core.detect import DEFAULT_THRESHOLD, Detector, load_detector
from mpmesh_core.engines import Engine, load_engine
from mpmesh_core.errors import UsageError
from mpmesh_core.smoothing import Smoother
from mpmesh_core.tensor_detector import TensorDetector
from mpmesh_core.weights import weights_path

if TYPE_CHECKING:
    from mpmesh_core.fusing import Fuser


@dataclass(frozen=True)
class PartsLoader:
    """Loads the parts that a configuration asks for.

    Args:
        config: everything that can be chosen about the line.
        backend: as `choose_backend` returned it.
        device: likewise.
        at_once: how many threads will look at frames at the same time, each with its part of the
            cores.

    Raises:
        UsageError: several frames at once on a GPU, or with a deadline.
    """

    config: PipelineConfig
    backend: str
    device: torch.device
    at_once: int = 1

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise UsageError(f"frames at once must be 1 or more, got {self.at_once}")
        alone = self.device.type != "cpu" or self.config.deadline_ms is not None
        if self.at_once > 1 and alone:
            raise UsageError("several frames at once: on a CPU only, and without a deadline")

    def engine(self, name: str) -> Engine:
        """The network `detector`, `skeleton` or `refiner`.

        Raises:
            MPMeshError: weights or backend that cannot be used, see `load_engine`.
        """
        path = weights_path(name, self.config.variant, self.config.weights)
        limits = self.config.max_people, self._threads
        return load_engine(name, path, self.backend, self.device, *limits)

    def detector(self) -> Detector:
        """The shipped detector, on a GPU as part of the device's line, or the user's own.

        Raises:
            MPMeshError: weights or file that cannot be used.
        """
        threshold, most = self.config.score_threshold, self.config.max_people
        if self.config.detector is not None:
            return load_detector(self.config.detector, most, threshold, self._threads)
        engine = self.engine("detector")
        if self.device.type == "cpu":
            return load_detector(engine, most, threshold)
        return TensorDetector(engine, DEFAULT_THRESHOLD if threshold is None else threshold, most)

    def smoother(self) -> Smoother | None:
        """Where it is asked for; it works on finished people, so its body stays on the CPU."""
        if not (self.config.smooth and self.config.track):
            return None
        return Smoother(load_body(self.config.body, gender=self.config.gender))

    def fuser(self) -> Fuser | None:
        """Where it is asked for.

        Raises:
            UsageError: no torch backend on a GPU, or a torch that cannot compile.
        """
        if self.config.fuse != "on":
            return None
        if self.device.type == "cpu" or self.backend != "torch":
            raise UsageError(
                f"--fuse on needs the torch backend on a GPU, not {self.backend} on {self.device}"
            )
        try:
            from mpmesh_core.fusing import Fuser
        except ImportError as error:
            raise UsageError(f"--fuse on needs a newer torch: {error}") from None
        return Fuser()

    @property
    def _threads(self) -> int:
        """CPU threads of a network; 0: all cores."""
        return 0 if self.at_once == 1 else max(1, cores() // self.at_once)
