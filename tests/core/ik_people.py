"""People for the tests of inverse kinematics: a rest skeleton, forward kinematics, hard cases."""

from __future__ import annotations

import roma
import torch
from torch import Tensor

from mpmesh_core.joints import POINT_PARENTS

# Offsets of each joint from its parent on the mean SMPL shape, then of the five tips [m].
OFFSETS = """
0 0 0            .0695 -.0914 -.0068   -.0677 -.0905 -.0043  -.0025 .1090 -.0267
.0343 -.3752 -.0045   -.0383 -.3826 -.0089  .0055 .1352 .0011    -.0136 -.3980 -.0437
.0158 -.3984 -.0423   .0015 .0529 .0254     .0264 -.0558 .1193   -.0254 -.0481 .1233
-.0028 .2139 -.0429   .0788 .1217 -.0341    -.0818 .1188 -.0386  .0052 .0650 .0513
.0910 .0305 -.0089    -.0960 .0326 -.0091   .2596 -.0128 -.0275  -.2537 -.0133 -.0214
.2492 .0090 -.0012    -.2553 .0078 -.0056   .0840 -.0082 -.0149  -.0846 -.0061 -.0103
.0020 .1850 .0240     .0950 -.0110 -.0030   -.0940 -.0130 -.0020 .0080 -.0230 .0790
-.0090 -.0210 .0800
"""


def rest_skeleton(dtype: torch.dtype = torch.float64) -> Tensor:
    """(29, 3) [m], pelvis at the origin."""
    offsets = torch.tensor([float(word) for word in OFFSETS.split()], dtype=dtype).view(29, 3)
    rest = [offsets[0]]
    for point in range(1, 29):
        rest.append(rest[POINT_PARENTS[point]] + offsets[point])
    return torch.stack(rest)


def pose(rotations: Tensor, rest: Tensor) -> Tensor:
    """Forward kinematics, the plain way: (..., 24, 3, 3) and (29, 3) to (..., 29, 3)."""
    frames, points = [rotations[..., 0, :, :]], [rest[0].expand(*rotations.shape[:-3], 3)]
    for point in range(1, 29):
        parent = POINT_PARENTS[point]
        points.append(points[parent] + frames[parent] @ (rest[point] - rest[parent]))
        if point < 24:
            frames.append(frames[parent] @ rotations[..., point, :, :])
    return torch.stack(points, -2)


def random_rotations(
    people: int, largest: float, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """(people, 24, 3, 3), every joint by up to `largest` [rad] about a random axis, root anyhow."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randn(people, 24, 3, generator=generator, dtype=dtype)
    angles = largest * torch.rand(people, 24, 1, generator=generator, dtype=dtype)
    axes = axes / axes.norm(dim=-1, keepdim=True)
    rotations = roma.rotvec_to_rotmat(axes * angles)
    rotations[:, 0] = roma.rotvec_to_rotmat(axes[:, 0] * 3.1 * angles[:, 0] / largest)
    return rotations


def degrees_apart(a: Tensor, b: Tensor) -> Tensor:
    """Angle between rotations (...) [degree], exact for small ones too."""
    chord = (a.double() - b.double()).square().sum((-2, -1)).sqrt()  # sqrt(8) sin(angle / 2)
    return torch.rad2deg(2 * torch.asin((chord / 8**0.5).clamp(max=1)))


def off_so3(rotations: Tensor) -> Tensor:
    """Largest distance from orthonormal with determinant +1."""
    rotations = rotations.double()
    eye = torch.eye(3, dtype=torch.float64)
    gram = (rotations @ rotations.mT - eye).abs().amax((-2, -1))
    return torch.maximum(gram, (torch.linalg.det(rotations) - 1).abs()).max()


def hard_cases() -> dict[str, Tensor]:
    """Named (29, 3) targets that a solver can stumble over; all finite."""
    rest = rest_skeleton()
    bent = pose(random_rotations(1, 0.8, seed=5), rest)[0]
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(29, 3, generator=generator, dtype=torch.float64)
    cases = {
        "rest": rest,
        "point inversion": -rest,  # every bone exactly opposite
        "nearly opposite": -rest + 1e-7 * noise,
        "collapsed": torch.zeros_like(rest),
        "collapsed off the origin": torch.full_like(rest, 3.0),
        "nearly collapsed": 1e-9 * noise,
        "one line": torch.linspace(0, 1, 29, dtype=torch.float64)[:, None] * noise[0],
        "flat": rest * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64),
        "mirrored": rest * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64),
        "noise": noise,
        "huge": 1e30 * noise,
        "tiny": 1e-30 * noise,
    }
    for name, joint, end in (("knee", 4, 7), ("wrist", 20, 22), ("neck", 12, 15), ("hand", 22, 25)):
        cases[f"zero length {name}"] = bent.index_copy(
            0, torch.tensor([end]), bent[joint : joint + 1]
        )
    folded = bent.clone()
    folded[20] = folded[16]  # forearm folded exactly back on the upper arm
    cases["folded arm"] = folded
    for name, line in (("hips", (0, 1, 2, 3)), ("spine3", (9, 12, 13, 14))):
        case = bent.clone()
        case[list(line)] = case[line[0]] + torch.arange(4.0).double()[:, None] * 0.1 * noise[1]
        cases[f"collinear {name}"] = case
    return cases
