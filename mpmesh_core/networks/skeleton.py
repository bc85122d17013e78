"""skeleton: f^P and f^TS of the paper, one network with a shared backbone.

In   image (N, 3, 256, 256), RGB 0..255: perspective crops
Out  points3d (N, 29, 3) [m], pelvis-relative, crop camera axes
     points2d (N, 29, 2) [crop px]
     confidence (N, 29) in 0..1: b0 / (b0 + b) for an expected 2D error of b px, b0 = 8 px
     twist (N, 23, 2), unit (cos, sin) of joints 1..23; betas (N, 10)
     features (N, C, 8, 8), F_img; heatmaps (N, 24, 8, 8), each sums to 1

Metric-scale heatmaps span a cube of 2.2 m that is not tied to the crop, so points outside of the
crop have a place in it; image-scale heatmaps are tied to the crop's pixels. For training the head
also speaks other label conventions (`EXTRA_POINTS`), which `forward` leaves out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpmesh_core.errors import WeightsError
from mpmesh_core.networks.decoder import FINE_RING, DecodedMaps, Decoder, FineMap
from mpmesh_core.networks.heatmaps import Grid
from mpmesh_core.networks.joint_head import POINTS, JointHead, JointTokens
from mpmesh_core.networks.mobilenet import LAYOUTS, ConvNorm, MobileNet
from mpmesh_core.networks.point_head import PointHead, PointMaps
from mpmesh_core.networks.resnet import Layout, ResNet

INPUT_SIZE = 256
JOINTS = 24
EXTRA_POINTS = {"lsp": 14, "coco": 17, "mediapipe": 33}
"""Training-only label conventions: name and number of points."""
CONFIDENCE_SCALE_PX = 8.0
_FEATURE_STRIDE, _LATERAL_STRIDE = 32, 16  # [px]
_CENTRED_OFFSET = 16.0  # [px] of the paper variant's first cell (see `resnet`)
_FINE_STRIDE = 8  # [px]


@dataclass(frozen=True)
class SkeletonConfig:
    """What it takes to rebuild a skeleton network."""

    # Made from settings, it refuses unknown keys.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    variant: str = "light"  # light: MobileNet, decoder at stride 16; paper: ResNet, stride 32
    backbone: str = "mobilenetv2"  # light: one of `mobilenet.LAYOUTS`; paper: resnet34, else 50
    features: int = 256  # channels of F_img (light; the paper variant has ResNet's 2048 or 512)
    hidden: int = 192  # channels of the decoder
    fine: int = 0  # channels of a map at stride 8 that sharpens image points (light; 0: none)
    depth_bins: int = 8
    box: float = 2.2  # [m]


class SkeletonNetwork(nn.Module):
    """3D skeleton, twist and shape of the person in each crop."""

    KIND: ClassVar[str] = "skeleton"
    INPUT_NAMES: ClassVar[tuple[str, ...]] = ("image",)
    OUTPUT_NAMES: ClassVar[tuple[str, ...]] = (
        "points3d", "points2d", "confidence", "twist", "betas", "features", "heatmaps",
    )  # fmt: skip

    def __init__(self, config: SkeletonConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SkeletonConfig()
        if config.variant not in ("light", "paper"):
            raise WeightsError(f"unknown variant {config.variant!r}: expected light or paper")
        known = [*LAYOUTS] if config.variant == "light" else [*LAYOUTS, *get_args(Layout)]
        if config.backbone not in known:
            raise WeightsError(
                f"unknown backbone {config.backbone!r}: expected {' or '.join(known)}"
            )
        self.backbone: MobileNet | ResNet
        self.neck: nn.Module
        if config.variant == "light":
            self.backbone = MobileNet(config.backbone)
            channels, lateral = config.features, self.backbone.lateral_channels
            self.neck = ConvNorm(self.backbone.top_channels, channels)
        else:
            self.backbone = ResNet("resnet34" if config.backbone == "resnet34" else "resnet50")
            channels, lateral = self.backbone.channels, 0
            self.neck = nn.Identity()
        self.feature_channels = channels  # of F_img
        self.decoder = Decoder(channels, lateral, config.hidden)
        self.fine: FineMap | None = None
        if config.fine:
            if not isinstance(self.backbone, MobileNet):
                raise WeightsError("only the light variant has a fine map: set fine to 0")
            self.fine = FineMap(config.hidden, self.backbone.early_channels, config.fine)
        sizes = config.fine, config.depth_bins, config.box
        self.head = PointHead(config.hidden, POINTS, *sizes)
        self.extra = nn.ModuleDict(
            {name: PointHead(config.hidden, n, *sizes) for name, n in EXTRA_POINTS.items()}
        )
        self.joints = JointHead(config.hidden, channels, config.fine)

    @property
    def variant(self) -> str:
        """`light` or `paper`."""
        return self.config.variant

    @property
    def float32_parts(self) -> tuple[str, ...]:
        """Parts that half precision does not do for, by name.

        The light backbone's late stages work on small maps, and rounding there moves points most:
        with them in float32 points on photos move by 1.2 mm in the mean, not by 1.6.
        """
        if not isinstance(self.backbone, MobileNet):
            return ()
        return tuple(f"backbone.stages.{number}" for number in self.backbone.late_stages)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SkeletonNetwork:
        """Build from the JSON configuration of a checkpoint."""
        unknown = set(config) - {field.name for field in fields(SkeletonConfig)}
        if unknown:
            raise WeightsError(f"unknown skeleton configuration: {', '.join(sorted(unknown))}")
        return cls(SkeletonConfig(**config))

    def config_dict(self) -> dict[str, Any]:
        """The configuration as JSON values, for `save_checkpoint`."""
        return asdict(self.config)

    def example_inputs(self, batch: int) -> dict[str, Tensor]:
        """Soft patches of random colour; plain noise would average out in the first layers."""
        patches = torch.rand(batch, 3, 8, 8) * 255
        return {"image": F.interpolate(patches, INPUT_SIZE, mode="bilinear")}

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Crops to skeletons; see the module docstring for names, shapes and units."""
        return self.outputs(image)[0]

    def outputs(self, image: Tensor) -> tuple[dict[str, Tensor], PointMaps, DecodedMaps]:
        """What `forward` returns, the points' maps, and what `extra_points` reads."""
        features, decoded = self._look(image / 127.5 - 1.0)
        maps = self.head(decoded.coarse, decoded.fine, self._centres(decoded))
        tokens, on_features = self._tokens(maps, decoded, features)
        found = self.conclude(tokens)
        found |= {"features": features.float(), "heatmaps": on_features[:, :JOINTS]}
        return found, maps, decoded

    def tokens(self, image: Tensor) -> JointTokens:
        """What the joint head reads of crops, for training it alone."""
        features, decoded = self._look(image / 127.5 - 1.0)
        maps = self.head(decoded.coarse, decoded.fine, self._centres(decoded))
        return self._tokens(maps, decoded, features)[0]

    def conclude(self, tokens: JointTokens) -> dict[str, Tensor]:
        """The outputs that the joint head has the last word on."""
        reading = self.joints(tokens)
        points3d = tokens.points3d + reading.shift3d
        log_scale = (tokens.log_scale + reading.log_scale).clamp(-1, 7)
        return {
            "points3d": points3d - points3d[:, :1],
            "points2d": tokens.points2d + reading.shift2d,
            "confidence": CONFIDENCE_SCALE_PX / (CONFIDENCE_SCALE_PX + log_scale.exp()),
            "twist": reading.twist,
            "betas": reading.betas,
        }

    def _tokens(
        self, maps: PointMaps, decoded: DecodedMaps, features: Tensor
    ) -> tuple[JointTokens, Tensor]:
        """What the joint head reads, and the heatmaps (N, 29, S, S) on the features' cells.

        Heatmaps learn from their own losses alone; the joint head's go into the features.
        """
        on_coarse, on_features = self._fold(maps.heatmaps, decoded, features)
        points3d = maps.points3d.detach()
        under = torch.cat((_under(on_coarse, decoded.coarse), _under(on_features, features)), -1)
        tokens = JointTokens(
            under=under,
            whole=features.mean((2, 3)).float(),
            points3d=points3d - points3d[:, :1],
            points2d=maps.points2d.detach(),
            log_scale=maps.log_scale.detach(),
            under_fine=None if decoded.fine is None else _under(maps.heatmaps, decoded.fine),
        )
        return tokens, on_features

    def extra_points(self, decoded: DecodedMaps) -> dict[str, PointMaps]:
        """Points of the training-only conventions, from the decoder's maps."""
        centres = self._centres(decoded)
        return {
            name: head(decoded.coarse, decoded.fine, centres) for name, head in self.extra.items()
        }

    def _look(self, image: Tensor) -> tuple[Tensor, DecodedMaps]:
        """F_img and the decoder's maps of pictures in -1..1."""
        if self.fine is None:
            lateral, top = self.backbone(image)
            features = self.neck(top)
            return features, DecodedMaps(self.decoder(features, lateral), None)
        backbone = cast(MobileNet, self.backbone)
        early = backbone.early(image)
        lateral, top = backbone.late(early)
        features = self.neck(top)
        decoded = self.decoder(features, lateral)
        return features, DecodedMaps(decoded, self.fine(decoded, early))

    def _grid(self, decoded: DecodedMaps) -> Grid:
        """Where the cells of the decoder's coarse map lie in the crop."""
        cells = int(decoded.coarse.shape[-1])
        if self.variant == "light":  # MobileNet's cells begin at pixel 0
            return Grid(cells, _LATERAL_STRIDE, 0.0)
        return Grid(cells, _FEATURE_STRIDE, _CENTRED_OFFSET)

    def _fine_grid(self, decoded: DecodedMaps) -> Grid:
        """Where the cells of the image heatmaps lie."""
        if decoded.fine is None:
            return self._grid(decoded)
        return Grid(int(decoded.fine.shape[-1]), _FINE_STRIDE, 0.0, FINE_RING)

    def _centres(self, decoded: DecodedMaps) -> Tensor:
        return self._fine_grid(decoded).centres(decoded.coarse.device)

    def _fold(
        self, heatmaps: Tensor, decoded: DecodedMaps, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Heatmaps (N, J, G, G) on the cells of the coarse map and of the features."""
        grid, coarse = self._fine_grid(decoded), self._grid(decoded)
        top = Grid(int(features.shape[-1]), _FEATURE_STRIDE, coarse.offset, ring=0)
        to_top = grid.fold(top, heatmaps.device)
        on_features = to_top @ heatmaps @ to_top.T
        if decoded.fine is None:
            return heatmaps, on_features
        to_coarse = grid.fold(coarse, heatmaps.device)
        return to_coarse @ heatmaps @ to_coarse.T, on_features


def _under(heatmaps: Tensor, cells: Tensor) -> Tensor:
    """Mean of a map (N, C, G, G) under each heatmap (N, J, G, G): (N, J, C)."""
    return heatmaps.detach().flatten(2) @ cells.float().flatten(2).transpose(1, 2)
