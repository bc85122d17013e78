"""refiner: f^Ref of the paper, a transformer over the joints of a person and of those nearby.

In   features (M, C, 8, 8), heatmaps (M, 24, 8, 8), pose6d (M, 24, 6), betas (M, 10), camera (M, 3)
     of M people, each in the axes of its own crop camera; context (M, N) int64: for every person
     whom a run reads, the person itself first; valid (M, N) bool
Out  refined_pose6d (M, 24, 6), refined_betas (M, 10), refined_camera (M, 3): input plus residual
     (eq. 5); an ONNX graph may not name an output like an input

One run refines one target; all M runs are one batch. Tokens are made once per person, then
gathered by `context`. People marked invalid have no influence at all. A pose row is the first two
columns of the rotation one after the other; `camera` is (s, tx, ty), crop coordinates in -1..1 =
s (x + tx, y + ty).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from mpmesh_core.errors import WeightsError
from mpmesh_core.networks.transformer import Layer

JOINTS = 24
CELLS = 64  # of the 8x8 feature map
PARAMETERS = 6 + 10 + 3  # pose of one joint, shape, camera
MASKED = 0.01  # every entry of a masked token
CAMERA_START = (0.9, 0.0, 0.0)

Rearrange = Literal["heatmap", "conv", "linear"]


@dataclass(frozen=True)
class RefinerConfig:
    """What it takes to rebuild a refiner. The defaults are the light variant."""

    # Made from settings, it refuses unknown keys.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    variant: str = "light"
    feature_channels: int = 256  # C of F_img
    width: int = 256
    layers: int = 2
    heads: int = 4
    head_dim: int = 64
    mlp: int = 512
    max_people: int = 3  # N, the target included
    positional_embedding: bool = False
    mask_ratio: float = 0.3  # up to this part of the tokens is hidden, in training only
    rearrange: Rearrange = "heatmap"  # how the feature map becomes 24 tokens, see `Rearrangement`
    target_flag: bool = True  # tell the target's tokens from the others'

    def __post_init__(self) -> None:
        if self.rearrange not in get_args(Rearrange):
            modes = ", ".join(get_args(Rearrange))
            raise WeightsError(f"unknown rearrangement {self.rearrange!r}: expected one of {modes}")

    @classmethod
    def paper(cls, **changes: Any) -> RefinerConfig:
        """The sizes of the paper: (N x 24) tokens of 2067 numbers."""
        sizes = {"variant": "paper", "feature_channels": 2048, "width": 1024, "mlp": 2048}
        return cls(**{**sizes, **changes})

    @property
    def token_width(self) -> int:
        """Numbers in one token."""
        return self.feature_channels + PARAMETERS


class Rearrangement(nn.Module):
    """Feature maps (M, C, 8, 8) to one vector a joint (M, 24, C).

    `heatmap` averages the map under each joint's 2D heatmap, without parameters; `conv` learns one
    mix of the 64 cells a joint; `linear` scales the globally pooled vector by one number a joint.
    """

    def __init__(self, mode: Rearrange) -> None:
        super().__init__()
        self.mode = mode
        if mode == "conv":
            self.mix = nn.Linear(CELLS, JOINTS)
        elif mode == "linear":
            self.mix = nn.Linear(1, JOINTS)

    def forward(self, features: Tensor, heatmaps: Tensor) -> Tensor:
        """See the class."""
        cells = features.flatten(2)  # (M, C, 64)
        if self.mode == "heatmap":
            return heatmaps.flatten(2) @ cells.transpose(1, 2)
        if self.mode == "linear":
            cells = cells.mean(2, keepdim=True)
        return self.mix(cells).transpose(1, 2)


class RefinerNetwork(nn.Module):
    """Residuals on pose, shape and camera of each person, given the people next to it."""

    KIND: ClassVar[str] = "refiner"
    INPUT_NAMES: ClassVar[tuple[str, ...]] = (
        "features", "heatmaps", "pose6d", "betas", "camera", "context", "valid",
    )  # fmt: skip
    OUTPUT_NAMES: ClassVar[tuple[str, ...]] = (
        "refined_pose6d", "refined_betas", "refined_camera",
    )  # fmt: skip
    DYNAMIC_AXES: ClassVar[dict[str, dict[int, str]]] = {
        name: {1: "people"} for name in ("context", "valid")
    }

    def __init__(self, config: RefinerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or RefinerConfig()
        width = config.width
        self.rearrange = Rearrangement(config.rearrange)
        self.feature_norm = nn.LayerNorm(config.feature_channels)
        self.embed = nn.Linear(config.token_width, width)
        self.target = nn.Parameter(torch.randn(width) * 0.02) if config.target_flag else None
        positions = config.max_people * JOINTS
        self.position = (
            nn.Parameter(torch.randn(positions, width) * 0.02)
            if config.positional_embedding
            else None
        )
        self.layers = nn.ModuleList(
            Layer(width, config.heads, config.head_dim, config.mlp) for _ in range(config.layers)
        )
        self.pose = nn.Linear(width, 6)
        shape_camera = nn.Linear(width // 2, 10 + 3)
        self.shape_camera = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), shape_camera)
        for last in (self.pose, shape_camera):  # untrained, it changes nothing
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @property
    def variant(self) -> str:
        """`light` or `paper`."""
        return self.config.variant

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RefinerNetwork:
        """Build from the JSON configuration of a checkpoint."""
        unknown = set(config) - {field.name for field in fields(RefinerConfig)}
        if unknown:
            raise WeightsError(f"unknown refiner configuration: {', '.join(sorted(unknown))}")
        return cls(RefinerConfig(**config))

    def config_dict(self) -> dict[str, Any]:
        """The configuration as JSON values, for `save_checkpoint`."""
        return asdict(self.config)

    def example_inputs(self, batch: int) -> dict[str, Tensor]:
        """People with random features, each reading itself and those after it in the batch."""
        config = self.config
        context = (torch.arange(batch)[:, None] + torch.arange(config.max_people)) % batch
        return {
            "features": torch.rand(batch, config.feature_channels, 8, 8),
            "heatmaps": torch.rand(batch, JOINTS, CELLS).softmax(2).unflatten(2, (8, 8)),
            "pose6d": torch.randn(batch, JOINTS, 6),
            "betas": torch.randn(batch, 10),
            "camera": torch.tensor(CAMERA_START).repeat(batch, 1),
            "context": context,
            "valid": torch.arange(config.max_people).expand(batch, -1) < batch,
        }

    def tokens(
        self, features: Tensor, heatmaps: Tensor, pose6d: Tensor, betas: Tensor, camera: Tensor
    ) -> Tensor:
        """The input tokens of every person, (M, 24, C + 6 + 10 + 3)."""
        image = self.feature_norm(self.rearrange(features, heatmaps))
        whole = torch.cat((betas, camera), -1).unsqueeze(1).expand(-1, JOINTS, -1)
        return torch.cat((image, pose6d, whole), -1)

    def forward(
        self,
        features: Tensor,
        heatmaps: Tensor,
        pose6d: Tensor,
        betas: Tensor,
        camera: Tensor,
        context: Tensor,
        valid: Tensor,
    ) -> dict[str, Tensor]:
        """Refine M people; see the module docstring for names, shapes and meaning."""
        x, seen = self._runs(features, heatmaps, pose6d, betas, camera, context, valid)
        *first, last = self.layers
        for layer in first:
            x = layer(x, seen)
        target = last(x, seen, JOINTS)
        whole = self.shape_camera(target.mean(1))
        return {
            "refined_pose6d": pose6d + self.pose(target),
            "refined_betas": betas + whole[:, :10],
            "refined_camera": camera + whole[:, 10:],
        }

    def attention(self, *inputs: Tensor) -> Tensor:
        """Who looks at whom (Fig. 3 of the paper).

        Args:
            inputs: those of `forward`, in its order.

        Returns:
            (M, 24, N, 24): how much joint i of each target takes from joint j of the n-th person
            that its run reads, mean over layers and heads; sums to 1 over the last two axes.
        """
        x, seen = self._runs(*inputs)
        shares = []
        for layer in self.layers:
            shares.append(layer.shares(x, seen).mean(1)[:, :JOINTS])  # type: ignore[operator]
            x = layer(x, seen)
        return torch.stack(shares).mean(0).unflatten(2, (-1, JOINTS))

    def _runs(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (M, N * 24, width) of every run, and which of them count."""
        *of_people, context, valid = inputs
        people = self.embed(self.tokens(*of_people))
        # A person who does not count may hold anything, NaN too: zero times NaN is not zero.
        runs = torch.where(valid[..., None, None], people[context], 0.0)  # (M, N, 24, width)
        runs = self._mask(runs)
        if self.target is not None:
            runs = torch.cat((runs[:, :1] + self.target, runs[:, 1:]), 1)
        x = runs.flatten(1, 2)
        if self.position is not None:
            x = x + self.position[: x.shape[1]]
        seen = valid.unsqueeze(2).expand(-1, -1, JOINTS).flatten(1)[:, None, None]
        return x, seen

    def _mask(self, runs: Tensor) -> Tensor:
        """In training, hide whole tokens: in each run a part drawn from 0 to `mask_ratio`."""
        if not self.training or self.config.mask_ratio == 0:
            return runs
        scores = torch.rand(runs.shape[:3], device=runs.device).flatten(1)  # (M, N * 24)
        count = torch.rand(len(runs), 1, device=runs.device) * self.config.mask_ratio
        hidden = scores.argsort(1).argsort(1) < (count * scores.shape[1]).floor()
        constant = torch.full_like(self.embed.weight[0], MASKED)
        return torch.where(
            hidden.view(*runs.shape[:3], 1), self.embed(constant).to(runs.dtype), runs
        )
