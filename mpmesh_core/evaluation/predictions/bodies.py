"""predictions.bodies: SMPL parameters, as files store them, into joints and meshes."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mpmesh_core.body import BodyModel
from mpmesh_core.errors import InputError, UsageError
from mpmesh_core.types import Array


def pose_bodies(
    body: BodyModel | None, rotations: Array, betas: Array, transl: Array, source: str
) -> tuple[Array, Array]:
    """Joints and vertices of N bodies.

    Args:
        body: the model that the parameters belong to.
        rotations: (N, 24, 3, 3), or axis-angle (N, 72) or (N, 24, 3).
        betas: (N, B); the first ten count.
        transl: (N, 3) [m].
        source: what a complaint calls the file that they are from.

    Returns:
        Joints (N, 24, 3) and vertices (N, V, 3) [m], float64.

    Raises:
        UsageError: no body to pose.
        InputError: numbers of other shapes.
    """
    if body is None:
        raise UsageError(f"{source} holds SMPL parameters: give their body with --body smpl")
    count = len(rotations)
    matrices = np.asarray(rotations, np.float64)
    if matrices.size == count * 72:
        # Rotation refuses NaN rotations, which stand for nobody.
        vectors = matrices.reshape(-1, 3)
        known = np.asarray(np.isfinite(vectors).all(1))
        turned = Rotation.from_rotvec(np.where(known[:, None], vectors, 0.0)).as_matrix()
        matrices = np.where(known[:, None, None], turned, np.nan)
    if matrices.size != count * 216 or np.size(betas) < 10 * count or np.size(transl) != 3 * count:
        raise InputError(
            f"{source}: SMPL parameters need 24 rotations, 10 betas and a translation a person"
        )
    like = body.v_template
    with torch.inference_mode():
        posed = body(
            torch.as_tensor(matrices.reshape(count, 24, 3, 3)).to(like),
            torch.as_tensor(np.asarray(betas, np.float64).reshape(count, -1)[:, :10]).to(like),
            torch.as_tensor(np.asarray(transl, np.float64).reshape(count, 3)).to(like),
        )
    assert posed.vertices is not None
    return posed.joints.double().cpu().numpy(), posed.vertices.double().cpu().numpy()
