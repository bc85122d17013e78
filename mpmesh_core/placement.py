"""place: where each person stands, from 2D points, the relative skeleton and intrinsics.

In   points_rel (..., J, 3) [m, relative to the pelvis, crop camera axes], points_px (..., J, 2)
     [crop px], weight (..., J), K (..., 3, 3) of the crop cameras (no skew)
Out  Placement: root (..., 3) [m, crop camera frame], covariance (..., 3, 3) [m^2], ok (...)
Strong perspective: with n = K^-1 (u, v, 1), every point gives [I2 | -n] root = n z_rel - xy_rel.
Weighted least squares in closed form, one person independent of all others. Moves no joint:
`mix_absolute` only reads the image once more for the points that it shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpmesh_core.checks import check_shapes

FIELD_OF_VIEW = 104 / 256  # of the crop's side, to each side of its middle
_RIDGE = 1e-10  # on the mean squared spread of n: 0.03 mm at 30 m for a standing person
_OUTSIDE_WEIGHT = 1e-4  # so that a person wholly outside the field of view is still solvable
_LEAST_SEEN = 0.05  # sum of weights inside the field of view, below which nothing was seen
_NEAREST, _FARTHEST = 0.1, 1000.0  # [m] of the root
_UNKNOWN_SIGMA = 100.0  # [m], of a person that could not be placed


@dataclass(frozen=True)
class PlacementNoise:
    """What is known about the input before seeing it.

    Attributes:
        pixel_sigma: of each 2D coordinate [px].
        joint_sigma: of each coordinate of the relative points [m].
        scale_sigma: of the person's size as a fraction, common to all points. Residuals can't
            show it (a taller person farther away looks the same), so it is added along the ray.
        common_sigma: of what all relative points are off together on each axis [m]: where among
            them the pelvis is. Residuals can't show that either.
        confidence: how many rows of evidence this prior noise is worth beside the residuals. It
            is what stops the covariance at a floor when few points, or perfect ones, were seen.
    """

    pixel_sigma: float = 1.0
    joint_sigma: float = 0.02
    scale_sigma: float = 0.0
    common_sigma: float = 0.0
    confidence: float = 4.0


@dataclass(frozen=True)
class Placement:
    """Absolute position of each person's pelvis.

    Attributes:
        root: (..., 3) [m, crop camera frame].
        covariance: (..., 3, 3) [m^2]; 68.27 % of truths have a squared Mahalanobis distance of at
            most 3.527 (chi-square, 3 degrees of freedom).
        ok: (...) bool. False where the input was not finite, nothing was inside the field of
            view, or the solution lay behind the camera. The covariance is then (100 m)^2 in
            every direction, and root a finite point: on the viewing ray, or 1 m straight ahead.
    """

    root: Tensor
    covariance: Tensor
    ok: Tensor


def place(
    points_rel: Tensor,
    points_px: Tensor,
    weight: Tensor,
    K: Tensor,
    noise: PlacementNoise = PlacementNoise(),
    size: int = 256,
) -> Placement:
    """Solve for the pelvis position of every person.

    Args:
        points_rel: (..., J, 3) [m], relative to the pelvis, in crop camera axes.
        points_px: (..., J, 2) [crop px].
        weight: (..., J) at least 0, for example the confidence; the field-of-view mask is
            applied here.
        K: (..., 3, 3) [crop px].
        noise: prior noise of the input, for the covariance.
        size: of the crop [px].

    Returns:
        One placement per person.
    """
    _check(points_rel, points_px, weight, K)
    weight, total = _inside(weight, points_px, size)
    seen = total > _LEAST_SEEN
    fit = _solve(points_rel, _normalised(points_px, K), weight)
    covariance = _covariance(fit, points_rel, weight, K, noise)
    finite = torch.isfinite(covariance.sum((-1, -2)) + fit.root.sum(-1))
    depth = fit.root[..., 2]
    ok = finite & seen & (depth > _NEAREST) & (depth < _FARTHEST)
    axes = torch.eye(3, dtype=K.dtype, device=K.device)
    return Placement(
        root=torch.where(finite[..., None], fit.root, axes[2]),
        covariance=torch.where(ok[..., None, None], covariance, _UNKNOWN_SIGMA**2 * axes),
        ok=ok,
    )


def locate(
    points_rel: Tensor, points_px: Tensor, weight: Tensor, K: Tensor, size: int = 256
) -> Tensor:
    """`place` without asking how sure it is: root (..., 3) [m], 1 m ahead where not finite."""
    _check(points_rel, points_px, weight, K)
    weight, _ = _inside(weight, points_px, size)
    root = _solve(points_rel, _normalised(points_px, K), weight).root
    ahead = torch.eye(3, dtype=K.dtype, device=K.device)[2]
    return torch.where(root.isfinite().all(-1, keepdim=True), root, ahead)


def mix_absolute(
    points_rel: Tensor,
    points_px: Tensor,
    root: Tensor,
    K: Tensor,
    size: int = 256,
    mix: float | Tensor = 0.5,
) -> Tensor:
    """Absolute points from the relative skeleton and, where the crop shows them, from the image.

    Inside the field of view a point is `(1 - mix)` of rel + root and `mix` of the back-projection
    of its pixel at that depth; outside, or closer than 0.1 m, it is rel + root.

    Args:
        points_rel: (..., J, 3) [m], relative to the pelvis, in crop camera axes.
        points_px: (..., J, 2) [crop px].
        root: (..., 3) [m] from `place`.
        K: (..., 3, 3) [crop px].
        size: of the crop [px].
        mix: share of the back-projection, 0..1, for all points or (..., J) for each.

    Returns:
        (..., J, 3) [m, crop camera frame]; not finite where the input is not.
    """
    check_shapes(
        points_rel=(points_rel, (..., "J", 3)),
        points_px=(points_px, (..., "J", 2)),
        root=(root, (..., 3)),
        K=(K, (..., 3, 3)),
    )
    points = points_rel + root[..., None, :]
    depth = points[..., 2:]
    seen = inside_field_of_view(points_px, size) & (depth[..., 0] > _NEAREST)
    shown = torch.cat((_normalised(points_px, K) * depth, depth), dim=-1)
    share = mix.unsqueeze(-1) if isinstance(mix, Tensor) else mix
    return torch.where(seen[..., None], torch.lerp(points, shown, share), points)


def inside_field_of_view(points_px: Tensor, size: int = 256) -> Tensor:
    """Whether points (..., J, 2) [crop px] are at least 24/256 of the crop off its border."""
    return ((points_px - (size - 1) / 2).abs() <= size * FIELD_OF_VIEW).all(-1)


def fit_residual(
    points: Tensor, points_px: Tensor, weight: Tensor, K: Tensor, size: int = 256
) -> Tensor:
    """How far placed points are from where the image shows them.

    Args:
        points: (..., J, 3) [m, crop camera frame], in front of it.
        points_px: (..., J, 2) [crop px].
        weight: (..., J); points outside the field of view don't count.
        K: (..., 3, 3) [crop px].
        size: of the crop [px].

    Returns:
        (...) weighted RMS distance on the plane z = 1 m; times a focal length that is [px]. NaN
        where no point counts.
    """
    weight = weight * inside_field_of_view(points_px, size)
    off = points[..., :2] / points[..., 2:] - _normalised(points_px, K)
    return ((weight * off.square().sum(-1)).sum(-1) / weight.sum(-1)).sqrt()


@dataclass(frozen=True)
class _Fit:
    """Solution of one weighted least squares; all that its covariance needs."""

    root: Tensor  # (..., 3) [m], depth within the guards
    n: Tensor  # (..., J, 2) x/z, y/z of the pixels
    centred: Tensor  # (..., J, 2) n minus its weighted mean
    mean: Tensor  # (..., 1, 2) that mean
    spread: Tensor  # (...) weighted mean of |centred|^2, plus the ridge
    residual: Tensor  # (..., J, 2) [m]


def _check(points_rel: Tensor, points_px: Tensor, weight: Tensor, K: Tensor) -> None:
    check_shapes(
        points_rel=(points_rel, (..., "J", 3)),
        points_px=(points_px, (..., "J", 2)),
        weight=(weight, (..., "J")),
        K=(K, (..., 3, 3)),
    )


def _inside(weight: Tensor, points_px: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Weights (..., J) that sum to 1, small out of the field of view; and what lay inside (...)."""
    weight = weight.clamp(min=0) * inside_field_of_view(points_px, size)
    total = weight.sum(-1)
    weight = weight + _OUTSIDE_WEIGHT
    return weight / weight.sum(-1, keepdim=True), total


def _normalised(points_px: Tensor, K: Tensor) -> Tensor:
    """n = K^-1 (u, v, 1) without its 1, (..., J, 2)."""
    focal = torch.diagonal(K, dim1=-2, dim2=-1)[..., None, :2]
    return (points_px - K[..., None, :2, 2]) / focal


def _solve(points_rel: Tensor, n: Tensor, weight: Tensor) -> _Fit:
    """Weighted least squares of root_xy - n root_z = n z_rel - xy_rel; weight sums to 1.

    Taking the weighted means off both sides removes root_xy, so the depth is one division.
    """
    w = weight[..., None]
    b = n * points_rel[..., 2:] - points_rel[..., :2]  # (..., J, 2)
    mean, b_mean = (w * n).sum(-2, keepdim=True), (w * b).sum(-2, keepdim=True)
    centred = n - mean
    spread = (w * centred * centred).sum((-1, -2)) + _RIDGE
    depth = -(w * centred * (b - b_mean)).sum((-1, -2)) / spread
    depth = depth.clamp(_NEAREST, _FARTHEST)[..., None, None]
    xy = b_mean + mean * depth
    root = torch.cat((xy, depth), dim=-1).squeeze(-2)
    return _Fit(root, n, centred, mean, spread, xy - n * depth - b)


def _covariance(
    fit: _Fit, points_rel: Tensor, weight: Tensor, K: Tensor, noise: PlacementNoise
) -> Tensor:
    """Sandwich estimate with rows as noisy as pixels and relative points make them.

    Noise of row pair j: a_j I + joint_sigma^2 n_j n_j^T, a_j = joint_sigma^2 +
    (depth_j pixel_sigma)^2 / (fx fy). One common factor scales all rows to the residuals seen,
    of which the prior noise counts as `confidence` rows.
    """
    depth = points_rel[..., 2] + fit.root[..., 2:]
    pixel = noise.pixel_sigma**2 / (K[..., 0, 0] * K[..., 1, 1])  # in units of n
    a = noise.joint_sigma**2 + depth * depth * pixel[..., None]  # (..., J)
    row = a + 0.5 * noise.joint_sigma**2 * (fit.n * fit.n).sum(-1)
    rows = 2.0 / (weight * weight).sum(-1)
    misfit = (weight * (fit.residual * fit.residual).sum(-1) / row).sum(-1) / 2.0
    factor = (noise.confidence + rows * misfit) / (noise.confidence + (rows - 3.0).clamp(min=0.0))
    influence = _influence(fit, weight, a, noise.joint_sigma) * factor.sqrt()[..., None, None]
    along = noise.scale_sigma * fit.root[..., None]
    # A product and a sum, no matrix product: the same bits on every CPU and in every batch.
    spread = (influence.unsqueeze(-2) * influence.unsqueeze(-3)).sum(-1)
    common = noise.common_sigma**2 * torch.eye(3, dtype=K.dtype, device=K.device)
    return spread + along * along.mT + common


def _influence(fit: _Fit, weight: Tensor, a: Tensor, joint_sigma: float) -> Tensor:
    """What one sigma of each of the 3J independent noises moves the root by, (..., 3, 3J) [m]."""
    spreads = -fit.centred / fit.spread[..., None, None]  # depth per metre of row noise
    sigma = a.sqrt()
    zero = torch.zeros_like(sigma)
    x = torch.stack((sigma, zero, joint_sigma * fit.n[..., 0]), dim=-1)  # (..., J, 3)
    y = torch.stack((zero, sigma, joint_sigma * fit.n[..., 1]), dim=-1)
    z = x * spreads[..., :1] + y * spreads[..., 1:]
    moves = torch.stack((x + fit.mean[..., :1] * z, y + fit.mean[..., 1:] * z, z), dim=-3)
    return (moves * weight[..., None, :, None]).flatten(-2)
