"""swing_twist: the closed-form rotations that inverse kinematics is made of.

Bone directions in, rotation matrices out, branch-free and without SVD. Written with half turns,
H(u) = 2 u u^T - I, because a half turn is a rotation for every unit u: whatever happens to the
directions, the product stays in SO(3). The shortest rotation that takes t to p is H(t + p) H(t),
which equals the paper's equations 1 and 2 and does not lose precision near opposite directions.
Rotations that roma offers come from roma; these it lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import normalize

SQUARINGS = 5, 5  # K^(2^10); the trace is restored between the two so that float32 cannot underflow
RANK_ONE = 0.9999  # Frobenius norm of a trace-one projector: 1 for one root, 0.71 for two alike
PREFER_IDENTITY = 100.0
TINY = 1e-20


def half_turn(u: Tensor) -> Tensor:
    """Rotation by pi about unit `u` (..., 3), as (..., 3, 3)."""
    return 2 * u.unsqueeze(-1) * u.unsqueeze(-2) - _constants(u.dtype, u.device).eye3


def perpendicular(u: Tensor) -> Tensor:
    """A unit vector at a right angle to unit `u` (..., 3), the same for the same `u`."""
    cross = u @ _constants(u.dtype, u.device).cross  # (..., 9), the rows of [u]x
    size = u.abs()
    near_y = size[..., :1] < size[..., 1:2]  # the axis farther from u gives the longer product
    return normalize(torch.where(near_y, cross[..., :3], cross[..., 3:6]), dim=-1)


def half_way(t: Tensor, p: Tensor, length: Tensor, spare: Tensor) -> tuple[Tensor, Tensor]:
    """Unit m halfway between directions `t` and `p`: H(m) H(t) is the swing of equations 1 and 2.

    Args:
        t: (..., 3) unit.
        p: (..., 3), not of length zero, with its `length` (..., 1).
        spare: (..., 3) unit, at a right angle to `t`: taken where the two are opposite, so that the
            swing is the half turn about it and still ends on `p`.

    Returns:
        m (..., 3) and opposite (..., 1) bool, where the plane of the swing was not determined.
    """
    between = torch.addcmul(p, t, length)
    size = torch.linalg.vector_norm(between, dim=-1, keepdim=True)
    # Below sqrt(eps) rounding turns `between` by more than the half turn about `spare` misses p.
    opposite = size <= length * torch.finfo(t.dtype).eps ** 0.5
    m = torch.where(opposite, spare, between)
    return m / torch.linalg.vector_norm(m, dim=-1, keepdim=True), opposite


def twist_matrix(u: Tensor, cos_sin: Tensor) -> Tensor:
    """Equation 3: rotation (..., 3, 3) about unit `u` (..., 3) by unit (cos, sin) (..., 2)."""
    cos, sin = cos_sin[..., :1], cos_sin[..., 1:]
    constants = _constants(u.dtype, u.device)
    cross = ((sin * u) @ constants.cross).view(*u.shape, 3)
    outer = torch.addcmul(cross, u.unsqueeze(-1), ((1 - cos) * u).unsqueeze(-2))
    return torch.addcmul(outer, constants.eye3, cos.unsqueeze(-1))


@dataclass(frozen=True)
class _Constants:
    eye3: Tensor
    eye4: Tensor
    cross: Tensor  # (3, 9), u @ cross = the three rows of [u]x one after another
    products: Tensor  # (16, 9), vec(q q^T) @ products = vec(R) for unit q = (x, y, z, w)
    preference: Tensor  # (4,) weights by which `align` chooses a component of q, w far ahead


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # tensors made in that mode could never take part in training
def _constants(dtype: torch.dtype, device: torch.device) -> _Constants:
    cross = torch.zeros(3, 3, 3, dtype=dtype)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        cross[k, i, j], cross[j, i, k] = -1, 1
    return _Constants(
        eye3=torch.eye(3, dtype=dtype, device=device),
        eye4=torch.eye(4, dtype=dtype, device=device),
        cross=cross.flatten(1).to(device),
        products=_quaternion_products().to(device, dtype),
        preference=torch.tensor((1.0, 1.0, 1.0, PREFER_IDENTITY), dtype=dtype, device=device),
    )


def _quaternion_products() -> Tensor:
    """(16, 9) M with vec(q q^T) @ M = vec(R), homogeneous in q.

    M times vec(B) is Davenport's matrix of a correlation B, as tr(B^T R(q)) = q^T K q.
    """
    x, y, z, w = range(4)
    terms = (  # R[row, column] += factor q_a q_b
        (0, 0, ((1, w, w), (1, x, x), (-1, y, y), (-1, z, z))),
        (1, 1, ((1, w, w), (-1, x, x), (1, y, y), (-1, z, z))),
        (2, 2, ((1, w, w), (-1, x, x), (-1, y, y), (1, z, z))),
        (0, 1, ((2, x, y), (-2, w, z))), (1, 0, ((2, x, y), (2, w, z))),
        (0, 2, ((2, x, z), (2, w, y))), (2, 0, ((2, x, z), (-2, w, y))),
        (1, 2, ((2, y, z), (-2, w, x))), (2, 1, ((2, y, z), (2, w, x))),
    )  # fmt: skip
    products = torch.zeros(4, 4, 3, 3, dtype=torch.float64)
    for row, column, sums in terms:
        for factor, a, b in sums:
            products[a, b, row, column] += factor / 2
            products[b, a, row, column] += factor / 2
    return products.reshape(16, 9)


def align(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation R that brings each R source_i nearest to target_i, in least squares.

    Davenport's q method: the best quaternion is the dominant eigenvector of a 4x4 matrix, found by
    squaring that matrix ten times. Exact for exact input; where several rotations serve equally
    (collinear or collapsed vectors) it takes the one nearest to the identity.

    Args:
        source, target: (..., P, 3) vectors, any lengths (long ones weigh more).

    Returns:
        R (..., 3, 3) in SO(3) and determined (...) bool, False where R was not unique.
    """
    constants = _constants(source.dtype, source.device)
    correlation = (target.mT @ source).flatten(-2)  # B, (..., 9)
    bound = 3**0.5 * torch.linalg.vector_norm(correlation, dim=-1, keepdim=True)  # >= every |root|
    roots = (correlation / bound.clamp_min(TINY)) @ constants.products.T  # of K, in -1..1
    power = (constants.eye4 + roots.unflatten(-1, (4, 4))) / 4  # in 0..1/2, trace 1
    for squarings in SQUARINGS:
        for _ in range(squarings):
            power = power @ power
        trace = power.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
        power = power / trace.unsqueeze(-1)
    weighted = power.diagonal(dim1=-2, dim2=-1) * constants.preference
    best = weighted.argmax(-1)[..., None, None]  # a column that is not near zero
    column = power.gather(-1, best.expand(*power.shape[:-1], 1))
    q = column / torch.linalg.vector_norm(column, dim=-2, keepdim=True)  # (..., 4, 1)
    rotation = ((q @ q.mT).flatten(-2) @ constants.products).unflatten(-1, (3, 3))
    determined = torch.linalg.vector_norm(power, dim=(-2, -1)) > RANK_ONE
    return rotation, determined
