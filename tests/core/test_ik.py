from __future__ import annotations

import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ik_people import (
    degrees_apart,
    hard_cases,
    off_so3,
    pose,
    random_rotations,
    rest_skeleton,
)

from mpmesh_core.body import load_body
from mpmesh_core.errors import ShapeError
from mpmesh_core.ik import solve_ik, twist_from_rotations
from mpmesh_core.joints import BONE_CHILD, POINT_FLIP, SMPL_FLIP

DTYPES = (torch.float32, torch.float64)
MIRROR = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
UNTWISTED = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(23, 2)


def person(largest: float = 0.8, people: int = 6, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Exact targets with their truth: rotations, points, rest points, twist."""
    rotations, rest = random_rotations(people, largest, seed), rest_skeleton()
    return rotations, pose(rotations, rest), rest, twist_from_rotations(rotations, rest)


class TestExact:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("largest", (0.3, 0.8, 1.6, 2.5))
    @pytest.mark.parametrize("adaptive", (True, False))
    def test_gives_back_rotations_and_points(self, dtype, largest, adaptive):
        rotations, points, rest, twist = person(largest, people=500)
        result = solve_ik(points.to(dtype), rest.to(dtype), twist.to(dtype), adaptive)
        assert degrees_apart(result.rotations, rotations).max() < 0.05
        assert (result.points - points).norm(dim=-1).max() < 1e-4
        assert not result.degenerate.any()
        assert result.ok.all()
        assert result.rotations.dtype == result.points.dtype == dtype

    def test_far_from_the_origin(self):
        rotations, points, rest, twist = person()
        away = torch.tensor([1.5, -0.4, 8.0], dtype=torch.float64)
        result = solve_ik(points + away, rest + 0.5, twist)
        assert degrees_apart(result.rotations, rotations).max() < 1e-6
        assert (result.points - points - away).norm(dim=-1).max() < 1e-9

    def test_points_are_where_the_rotations_put_the_rest_skeleton(self):
        _, points, rest, twist = person(people=50)
        noisy = points + 0.05 * torch.randn(
            points.shape, generator=torch.Generator().manual_seed(1), dtype=points.dtype
        )
        result = solve_ik(noisy, rest, twist)
        posed = pose(result.rotations, rest)
        assert (result.points - result.points[:, :1] - posed).abs().max() < 1e-9

    def test_leaves_without_tips_take_their_twist_only(self):
        rotations, points, rest, twist = person()
        result = solve_ik(points[:, :24], rest, twist)
        leaves = [10, 11, 15, 22, 23]
        others = [joint for joint in range(24) if joint not in leaves]
        assert degrees_apart(result.rotations[:, others], rotations[:, others]).max() < 1e-6
        axes = rest[[BONE_CHILD[leaf] for leaf in leaves]] - rest[leaves]
        cos, sin = twist[:, [leaf - 1 for leaf in leaves]].unbind(-1)
        turn = torch.atan2(sin, cos)[..., None] * axes / axes.norm(dim=-1, keepdim=True)
        expected = roma.rotvec_to_rotmat(turn)
        assert degrees_apart(result.rotations[:, leaves], expected).max() < 1e-6
        assert result.degenerate[:, leaves].all()
        assert not result.degenerate[:, others].any()

    def test_24_rest_joints_do(self):
        rotations, points, rest, twist = person()
        result = solve_ik(points[:, :24], rest[:24], twist)
        inner = [joint for joint in range(24) if joint not in (10, 11, 15, 22, 23)]
        assert degrees_apart(result.rotations[:, inner], rotations[:, inner]).max() < 1e-6
        assert result.points.shape == (6, 24, 3)

    def test_length_of_twist_does_not_matter(self):
        _, points, rest, twist = person()
        scale = torch.rand(23, 1, dtype=torch.float64) + 0.1
        expected = solve_ik(points, rest, twist).rotations
        assert torch.allclose(solve_ik(points, rest, scale * twist).rotations, expected)


class TestLaws:
    def test_turning_the_target_turns_only_the_root(self):
        _, points, rest, twist = person(people=20)
        points = points + 0.03 * torch.sin(100 * points)  # not a pose that the bones can reach
        turn = roma.random_rotmat(20, dtype=torch.float64)
        straight = solve_ik(points, rest, twist)
        turned = solve_ik(points @ turn.mT, rest, twist)
        assert degrees_apart(turned.rotations[:, 1:], straight.rotations[:, 1:]).max() < 1e-5
        assert degrees_apart(turned.rotations[:, 0], turn @ straight.rotations[:, 0]).max() < 1e-5

    def test_mirror_swaps_sides_and_negates_sines(self):
        rotations, _, rest, twist = person(people=20)
        rest = 0.5 * (rest + (rest @ MIRROR)[list(POINT_FLIP)])  # a symmetric body
        flip = list(SMPL_FLIP)
        mirrored = MIRROR @ rotations[:, flip] @ MIRROR
        twist = twist_from_rotations(rotations, rest)
        flipped_twist = twist[:, [joint - 1 for joint in flip[1:]]] * torch.tensor([1.0, -1.0])
        assert torch.allclose(twist_from_rotations(mirrored, rest), flipped_twist, atol=1e-9)
        points = (pose(rotations, rest) @ MIRROR)[:, list(POINT_FLIP)]
        result = solve_ik(points, rest, flipped_twist)
        assert degrees_apart(result.rotations, mirrored).max() < 1e-6

    @given(scale=st.floats(0.2, 3.0))
    @settings(max_examples=20, deadline=None)
    def test_body_and_target_scale_together(self, scale):
        rotations, points, rest, twist = person(people=3)
        result = solve_ik(scale * points, scale * rest, twist)
        assert degrees_apart(result.rotations, rotations).max() < 1e-6

    def test_no_person_depends_on_another(self):
        _, points, rest, twist = person(people=32)
        points, rest, twist = points.float(), rest.float(), twist.float()
        together = solve_ik(points, rest, twist)
        alone = solve_ik(points[7], rest, twist[7])
        assert torch.allclose(together.rotations[7], alone.rotations, atol=1e-5)
        assert torch.allclose(together.points[7], alone.points, atol=1e-6)

    @pytest.mark.parametrize("batch", ((), (0,), (1,), (2, 3), (2, 0, 3)))
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_any_leading_dimensions(self, batch, dtype):
        rest = rest_skeleton(dtype)
        points = rest.expand(*batch, 29, 3)
        result = solve_ik(points, rest, torch.ones(*batch, 23, 2, dtype=dtype))
        assert result.rotations.shape == (*batch, 24, 3, 3)
        assert result.points.shape == (*batch, 29, 3)
        assert result.degenerate.shape == (*batch, 24)
        assert result.ok.shape == batch
        twist = twist_from_rotations(result.rotations, rest)
        assert twist.shape == (*batch, 23, 2)

    def test_noise_shrinks(self):
        _, points, rest, twist = person(people=1000)
        noise = torch.randn(
            points.shape, generator=torch.Generator().manual_seed(0), dtype=points.dtype
        )
        noise = 0.025 / noise[:, :24].norm(dim=-1).mean() * noise

        def error(**options: bool | int) -> float:
            landed = solve_ik(points + noise, rest, twist, **options).points
            return (landed - points)[:, :24].norm(dim=-1).mean().item()

        assert error() < 0.020
        assert error() < error(relaxation_passes=0) < error(adaptive=False)

    def test_longer_target_bones_do_not_add_up(self):
        _, points, rest, twist = person(people=300)
        target = 1.05 * points
        landed = solve_ik(target, rest, twist).points
        naive = solve_ik(target, rest, twist, adaptive=False).points
        adaptive_error = (landed - target).norm(dim=-1).mean()
        assert adaptive_error < 0.8 * (naive - target).norm(dim=-1).mean()


class TestDegenerate:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("adaptive", (True, False))
    @pytest.mark.parametrize("name", hard_cases())
    def test_always_a_rotation(self, name, adaptive, dtype):
        points = hard_cases()[name].to(dtype)
        result = solve_ik(points, rest_skeleton(dtype), UNTWISTED.to(dtype), adaptive)
        assert result.ok
        assert off_so3(result.rotations) < 1e-5
        assert result.points.isfinite().all()

    @given(
        points=hnp.arrays("float32", (29, 3), elements=FLOATS),
        rest=hnp.arrays(
            "float32", (29, 3), elements=st.sampled_from((0.0, 0.125, -0.125, 2.0**-30, 2.0))
        ),
        twist=hnp.arrays("float32", (23, 2), elements=FLOATS),
    )
    @settings(max_examples=150, deadline=None)
    def test_always_a_rotation_for_anything_finite(self, points, rest, twist):
        result = solve_ik(*(torch.from_numpy(x) for x in (points, rest, twist)))
        assert result.ok
        assert off_so3(result.rotations) < 1e-5

    @given(
        points=hnp.arrays("float64", (29, 3), elements=st.sampled_from((0.0, 0.1, -0.1, 0.3, -1.0)))
    )
    @settings(max_examples=100, deadline=None)
    def test_always_a_rotation_on_a_grid(self, points):
        """Grid points visit zero, parallel, opposite and collinear bones all the time."""
        result = solve_ik(torch.from_numpy(points), rest_skeleton(), UNTWISTED)
        assert off_so3(result.rotations) < 1e-5

    def test_opposite_bones_still_land_on_the_target(self):
        rest = rest_skeleton()
        points = rest.clone()
        points[[18, 20, 22, 25]] = 2 * rest[16] - rest[[18, 20, 22, 25]]  # left arm straight back
        result = solve_ik(points, rest, UNTWISTED)
        assert (result.points - points).norm(dim=-1).max() < 1e-9
        assert result.degenerate.nonzero().flatten().tolist() == [16]

    def test_flags_name_the_joint(self):
        cases, rest = hard_cases(), rest_skeleton()
        for name, joint in (("knee", 4), ("wrist", 20), ("neck", 12), ("hand", 22)):
            result = solve_ik(cases[f"zero length {name}"], rest, UNTWISTED)
            assert result.degenerate.nonzero().flatten().tolist() == [joint]
        assert solve_ik(cases["collinear hips"], rest, UNTWISTED).degenerate[0]
        assert solve_ik(cases["collinear spine3"], rest, UNTWISTED).degenerate[9]
        assert solve_ik(cases["collapsed"], rest, UNTWISTED).degenerate.all()

    def test_collapsed_person_gets_the_rest_pose(self):
        result = solve_ik(torch.zeros(29, 3), rest_skeleton(torch.float32), UNTWISTED.float())
        assert torch.allclose(result.rotations, torch.eye(3).expand(24, 3, 3), atol=1e-6)

    def test_zero_length_rest_bone_keeps_its_twist_off(self):
        rest = rest_skeleton()
        rest[20] = rest[18]
        result = solve_ik(rest, rest, UNTWISTED)
        assert result.degenerate.nonzero().flatten().tolist() == [18]
        assert off_so3(result.rotations) < 1e-9

    @pytest.mark.parametrize("poison", (float("nan"), float("inf"), -float("inf")))
    @pytest.mark.parametrize("where", (0, 1, 2))
    def test_one_bad_person_is_flagged_and_touches_nobody(self, poison, where):
        _, points, rest, twist = person()
        inputs = [points.clone(), rest.repeat(6, 1, 1), twist.clone()]
        clean = solve_ik(*inputs)
        inputs[where][2, 5, 0] = poison
        result = solve_ik(*inputs)
        others = [0, 1, 3, 4, 5]
        assert torch.equal(result.rotations[others], clean.rotations[others])
        assert torch.equal(result.points[others], clean.points[others])
        assert torch.equal(result.degenerate[others], clean.degenerate[others])
        assert result.ok.tolist() == [True, True, False, True, True, True]
        assert torch.equal(result.rotations[2], torch.eye(3, dtype=torch.float64).expand(24, 3, 3))
        assert result.points[2].isfinite().all()
        assert result.degenerate[2].all()


class TestDerivative:
    def test_gradcheck(self):
        _, points, rest, twist = person(people=1)
        points = points + 0.02 * torch.sin(70 * points)
        inputs = [x.clone().requires_grad_() for x in (points, rest, twist)]

        def outputs(*x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = solve_ik(*x)
            return result.rotations, result.points

        assert torch.autograd.gradcheck(outputs, inputs, fast_mode=True)

    @pytest.mark.parametrize("name", (*hard_cases(), "not finite"))
    def test_no_nan_gradients(self, name):
        points = hard_cases().get(name, torch.full((29, 3), torch.nan, dtype=torch.float64))
        inputs = [x.clone().requires_grad_() for x in (points, rest_skeleton(), UNTWISTED)]
        result = solve_ik(*inputs)
        (result.rotations.sum() + result.points.sum()).backward()
        assert all(x.grad.isfinite().all() for x in inputs)


class TestExport:
    def test_traces_with_any_number_of_people(self):
        class Solver(torch.nn.Module):
            def forward(self, points, rest, twist):
                result = solve_ik(points, rest, twist)
                return result.rotations, result.points, result.degenerate, result.ok

        _, points, rest, twist = person(people=4)
        people = torch.export.Dim("people", min=2, max=64)
        program = torch.export.export(
            Solver(),
            (points, rest, twist),
            dynamic_shapes=({0: people}, None, {0: people}),
        )
        rotations, points, rest, twist = person(people=9, seed=4)
        solved = program.module()(points, rest, twist)
        assert degrees_apart(solved[0], rotations).max() < 1e-6


class TestTwist:
    def test_is_unit(self):
        twist = person(3.1, people=200)[3]
        assert torch.allclose(twist.norm(dim=-1), torch.ones((), dtype=torch.float64))

    def test_known_turns(self):
        rest = rest_skeleton()
        bones = rest[list(BONE_CHILD[1:])] - rest[1:24]
        angles = torch.linspace(-3, 3, 23, dtype=torch.float64)
        turns = roma.rotvec_to_rotmat(angles[:, None] * bones / bones.norm(dim=-1, keepdim=True))
        rotations = torch.cat((torch.eye(3, dtype=torch.float64)[None], turns))
        twist = twist_from_rotations(rotations, rest)
        assert torch.allclose(torch.atan2(twist[:, 1], twist[:, 0]), angles)

    def test_swing_alone_has_none(self):
        rest = rest_skeleton()
        bones = rest[list(BONE_CHILD[1:])] - rest[1:24]
        axes = torch.linalg.cross(bones, torch.randn(23, 3, dtype=torch.float64))
        swings = roma.rotvec_to_rotmat(2 * axes / axes.norm(dim=-1, keepdim=True))
        rotations = torch.cat((torch.eye(3, dtype=torch.float64)[None], swings))
        assert torch.allclose(twist_from_rotations(rotations, rest), UNTWISTED, atol=1e-9)


class TestWithTheOpenBody:
    def test_gives_back_any_shape_and_pose(self):
        body = load_body("open")
        rotations = random_rotations(100, 2.5, dtype=torch.float32)
        betas = torch.randn(100, 10, generator=torch.Generator().manual_seed(2))
        rest = body.rest_points(betas)
        points = body(rotations, betas, torch.zeros(100, 3), vertices=False).points
        result = solve_ik(points, rest, twist_from_rotations(rotations, rest))
        assert degrees_apart(result.rotations, rotations).max() < 0.05
        assert (result.points - points).norm(dim=-1).max() < 1e-4


class TestErrors:
    def test_wrong_shapes(self):
        rest, twist = torch.zeros(29, 3), torch.zeros(23, 2)
        with pytest.raises(ShapeError, match="24 or 29 points"):
            solve_ik(torch.zeros(17, 3), rest, twist)
        with pytest.raises(ShapeError, match="24 or 29 points"):
            solve_ik(torch.zeros(29, 3), rest[:24], twist)
        with pytest.raises(ShapeError, match="twist must have shape"):
            solve_ik(rest, rest, torch.zeros(24, 2))
        with pytest.raises(ShapeError, match="rotations must have shape"):
            twist_from_rotations(torch.zeros(23, 3, 3), rest)
