"""refine: pose and shape once more, with an eye on the people nearby (eq. 5).

In   IK rotations (M, 24, 3, 3) and betas (M, 10), skeleton network's features and heatmaps, pelvis
     positions (M, 3) [m, crop cameras]
Out  refined rotations (M, 24, 3, 3) and betas (M, 10)
Every person is the target of one run with the N - 1 nearest people as context; all runs are one
batch. Moves nobody: the pelvis is placed anew afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import roma
import torch
from torch import Tensor

from mpmesh_core.checks import check_shapes
from mpmesh_core.constants import constant
from mpmesh_core.crop import CropCameras
from mpmesh_core.engines import Engine
from mpmesh_core.networks.refiner import CAMERA_START
from mpmesh_core.types import Skeletons

COLLINEAR = 1e-4  # sine of the angle between two columns below which they span no plane


class Refinement(NamedTuple):
    """Refined people; where the refiner gives nothing finite, as they came in."""

    rotations: Tensor  # (M, 24, 3, 3)
    betas: Tensor  # (M, 10)
    ok: Tensor  # (M,) bool, whether the refiner gave finite numbers


def refine(
    engine: Engine,
    skeletons: Skeletons,
    rotations: Tensor,
    betas: Tensor,
    roots: Tensor,
    crops: CropCameras,
    max_people: int = 3,
) -> Refinement:
    """Refine M people in one batch.

    Args:
        engine: of a refiner network.
        skeletons: outputs of the skeleton network.
        rotations: (M, 24, 3, 3) from inverse kinematics, joint 0 in crop camera axes.
        betas: (M, 10).
        roots: (M, 3) pelvis positions [m], each in its own crop camera. People whose position is
            not finite are nobody's context.
        crops: their cameras.
        max_people: people in one run, the target included (N of the paper).

    """
    inputs = refiner_inputs(skeletons, rotations, betas, roots, crops, max_people)
    refined = engine.run({name: tensor.contiguous() for name, tensor in inputs.items()})
    numbers = refined["refined_pose6d"].flatten(1), refined["refined_betas"]
    better = torch.cat(numbers, -1).isfinite().all(-1, keepdim=True)
    return Refinement(
        rotations_from_pose6d(refined["refined_pose6d"], rotations),
        torch.where(better, refined["refined_betas"], betas),
        better[:, 0],
    )


def refiner_inputs(
    skeletons: Skeletons,
    rotations: Tensor,
    betas: Tensor,
    roots: Tensor,
    crops: CropCameras,
    max_people: int = 3,
) -> dict[str, Tensor]:
    """What the refiner network reads, by name, in its order; arguments as for `refine`."""
    check_shapes(
        rotations=(rotations, ("M", 24, 3, 3)), betas=(betas, ("M", 10)), roots=(roots, ("M", 3))
    )
    roots_cam = (crops.R_crop_cam.mT @ roots.unsqueeze(-1)).squeeze(-1)
    context, valid = nearest_context(roots_cam, max_people)
    return {
        "features": skeletons.features,
        "heatmaps": skeletons.heatmaps,
        "pose6d": pose6d_from_rotations(rotations),
        "betas": betas,
        "camera": constant(CAMERA_START, betas.dtype, betas.device).expand(len(betas), 3),
        "context": context,
        "valid": valid,
    }


def nearest_context(roots: Tensor, max_people: int) -> tuple[Tensor, Tensor]:
    """Whom each person is refined with.

    Args:
        roots: (M, 3) pelvis positions [m] in one frame. People whose position is not finite are
            nobody's context.
        max_people: N, the target included.

    Returns:
        context (M, N) int64, the person itself, then the others by distance (and by index where
        equally far), and valid (M, N) bool, False where there are fewer people.
    """
    people = roots.shape[0]
    distance = (roots.unsqueeze(0) - roots.unsqueeze(1)).square().sum(-1)
    itself = torch.eye(people, dtype=torch.bool, device=roots.device)
    distance = torch.where(distance.isfinite(), distance, torch.inf).masked_fill(itself, -1.0)
    distance, context = distance.sort(dim=1, stable=True)
    context, valid = context[:, :max_people], distance[:, :max_people].isfinite()
    missing = max(max_people - people, 0)
    pad = torch.nn.functional.pad
    return pad(context, (0, missing)), pad(valid, (0, missing))


def pose6d_from_rotations(rotations: Tensor) -> Tensor:
    """(..., 3, 3) to (..., 6): the first two columns one after the other."""
    return rotations[..., :2].mT.flatten(-2)


def rotations_from_pose6d(pose6d: Tensor, otherwise: Tensor) -> Tensor:
    """Rotations (..., 3, 3) nearest to (..., 6) by Gram-Schmidt.

    Args:
        pose6d: first two columns one after the other, of any length.
        otherwise: (..., 3, 3) rotations to take where the columns span no plane.
    """
    columns = pose6d.unflatten(-1, (2, 3)).mT  # (..., 3, 2)
    first, second = columns.unbind(-1)
    area = torch.linalg.cross(first, second).square().sum(-1)
    sides = first.square().sum(-1) * second.square().sum(-1)
    plane = (area > COLLINEAR**2 * sides) & sides.isfinite() & (sides > 1e-12)
    chosen = torch.where(plane[..., None, None], columns, otherwise[..., :2])
    return roma.special_gramschmidt(chosen)
