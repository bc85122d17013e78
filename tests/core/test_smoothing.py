"""smoothing: calm at rest, prompt in motion, on SO(3), one person apart from the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from torch import Tensor

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.smoothing import (
    OneEuro,
    Signals,
    Smoother,
    SmootherConfig,
    SmootherState,
    smooth_rotations,
    smooth_vectors,
    start_rotations,
    start_vectors,
    step,
)
from mpmesh_core.types import FrameResult, Person

FILTER = OneEuro(least_cutoff=1.0, slope=1.0)
CAMERA = Camera.from_fov(640, 480)


def run_vectors(values: Tensor, dt: float, filter_: OneEuro = FILTER) -> Tensor:
    state = start_vectors(values[0])
    out = [state.value]
    for value in values[1:]:
        state = smooth_vectors(state, value, dt, filter_)
        out.append(state.value)
    return torch.stack(out)


def run_rotations(values: Tensor, dt: float, filter_: OneEuro = FILTER) -> Tensor:
    state = start_rotations(values[0])
    out = [state.value]
    for value in values[1:]:
        state = smooth_rotations(state, value, dt, filter_)
        out.append(state.value)
    return torch.stack(out)


class TestVectors:
    def test_rest_is_rest(self) -> None:
        values = torch.full((20, 3, 2), 0.7, dtype=torch.float64)
        assert torch.equal(run_vectors(values, 1 / 30), values)

    def test_noise_shrinks(self) -> None:
        noise = torch.randn(600, 8, 1, generator=torch.Generator().manual_seed(0)) * 0.05
        assert run_vectors(noise, 1 / 30)[100:].std() < 0.5 * noise.std()

    def test_step_is_reached_without_overshoot(self) -> None:
        values = torch.cat((torch.zeros(5, 1, 1), torch.ones(60, 1, 1)))
        out = run_vectors(values, 1 / 30)[:, 0, 0]
        assert (out.diff() >= 0).all() and out[-1] > 0.98 and out.max() <= 1

    def test_motion_lags_less_than_a_plain_low_pass(self) -> None:
        ramp = torch.arange(90).view(-1, 1, 1) / 30.0 * 3.0
        lag = (ramp - run_vectors(ramp, 1 / 30))[-1]
        plain = (ramp - run_vectors(ramp, 1 / 30, OneEuro(least_cutoff=1.0, slope=0.0)))[-1]
        assert lag < 0.5 * plain and lag < 0.2

    def test_frame_rate_hardly_matters(self) -> None:
        def at_one_second(rate: int) -> float:
            values = torch.cat((torch.zeros(1, 1, 1), torch.ones(rate, 1, 1)))
            constant = OneEuro(least_cutoff=0.5, slope=0.0)
            return run_vectors(values, 1 / rate, constant)[-1].item()

        assert at_one_second(15) == pytest.approx(at_one_second(60), abs=1e-5)

    def test_no_time_no_change(self) -> None:
        state = smooth_vectors(start_vectors(torch.zeros(1, 2)), torch.ones(1, 2), 0.0, FILTER)
        assert torch.equal(state.value, torch.zeros(1, 2)) and torch.isfinite(state.rate).all()


def swinging(count: int = 120) -> Tensor:
    """Rotations that swing far, also through 180 degrees, (count, 1, 2, 3, 3) with noise."""
    t = torch.arange(count, dtype=torch.float64)[:, None] / 30
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    noise = 0.05 * torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    angles = torch.cat((3 * t, 2 * torch.sin(t)), -1)[..., None]
    return roma.rotvec_to_rotmat(angles * axis + noise)[:, None]


class TestRotations:
    def test_always_rotations(self) -> None:
        out = run_rotations(swinging(), 1 / 30)
        eye = torch.eye(3, dtype=torch.float64).expand_as(out)
        torch.testing.assert_close(out @ out.mT, eye, atol=1e-9, rtol=0)
        torch.testing.assert_close(torch.linalg.det(out), torch.ones(out.shape[:-2]).double())

    def test_full_turns_do_not_jump(self) -> None:
        """3 rad/s for 4 s passes 180 degrees; the output follows the short way."""
        raw, out = swinging(), run_rotations(swinging(), 1 / 30)
        lag = roma.rotmat_geodesic_distance(raw, out)
        assert lag.max() < 0.45
        steps = roma.rotmat_geodesic_distance(out[1:], out[:-1])
        assert steps.max() < 0.25

    def test_same_seen_from_another_side(self) -> None:
        turn = roma.random_rotmat(dtype=torch.float64)
        torch.testing.assert_close(
            run_rotations(turn @ swinging(), 1 / 30), turn @ run_rotations(swinging(), 1 / 30)
        )

    def test_noise_shrinks(self) -> None:
        noise = torch.randn(300, 4, 3, generator=torch.Generator().manual_seed(0)).double() * 0.05
        out = run_rotations(roma.rotvec_to_rotmat(noise), 1 / 30)
        angle = roma.rotmat_to_rotvec(out[100:]).norm(dim=-1)
        assert angle.mean() < 0.5 * noise.norm(dim=-1).mean()

    def test_half_turn_stays_finite(self) -> None:
        state = start_rotations(torch.eye(3).expand(1, 3, 3))
        half = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(1, 3, 3)
        for _ in range(5):
            state = smooth_rotations(state, half, 1 / 30, FILTER)
        torch.testing.assert_close(state.value @ state.value.mT, torch.eye(3).expand(1, 3, 3))


def signals_of(count: int, seed: int) -> Signals:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    rotation = roma.rotvec_to_rotmat(0.3 * normal(count, 24, 3))
    return Signals(rotation, normal(count, 2), normal(count, 1), normal(count, 10))


class TestStep:
    def test_people_come_and_go_by_id(self) -> None:
        """Order and company in the frame change nothing for a person."""
        config = SmootherConfig()
        first, second = signals_of(3, 0), signals_of(2, 1)
        state, _ = step(SmootherState(), (5, 7, 9), first, 0.0, config)
        _, together = step(state, (9, 4), second, 0.1, config)
        alone, _ = step(
            SmootherState(), (9,), Signals(*(v[2:] for v in vars(first).values())), 0.0, config
        )
        _, single = step(alone, (9,), Signals(*(v[:1] for v in vars(second).values())), 0.1, config)
        for name in ("rotation", "ray", "depth", "betas"):
            torch.testing.assert_close(getattr(together, name)[:1], getattr(single, name))
            torch.testing.assert_close(getattr(together, name)[1], getattr(second, name)[1])

    @pytest.mark.parametrize("stamp", [-0.1, 9.0, float("nan")])
    def test_starts_anew_when_time_jumps(self, stamp: float) -> None:
        config = SmootherConfig()
        state, _ = step(SmootherState(), (1,), signals_of(1, 0), 0.0, config)
        _, out = step(state, (1,), signals_of(1, 1), stamp, config)
        assert torch.equal(out.rotation, signals_of(1, 1).rotation)

    def test_nobody(self) -> None:
        config = SmootherConfig()
        state, _ = step(SmootherState(), (1,), signals_of(1, 0), 0.0, config)
        state, out = step(state, (), signals_of(0, 0), 0.1, config)
        assert out.rotation.shape == (0, 24, 3, 3)
        _, out = step(state, (1,), signals_of(1, 1), 0.2, config)
        assert torch.equal(out.betas, signals_of(1, 1).betas)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


def standing(
    body: BodyModel, track_id: int, rng: np.random.Generator, mesh: bool = False
) -> Person:
    jitter = 0.05
    rotvec = torch.tensor(jitter * rng.standard_normal((24, 3)), dtype=torch.float32)
    rotvec[0] += torch.tensor([np.pi, 0, 0])
    betas = torch.tensor(5 * jitter * rng.standard_normal(10), dtype=torch.float32)
    transl = torch.tensor([0.3, 0.2, 4.0]) + 0.2 * jitter * torch.randn(3)
    rotation = roma.rotvec_to_rotmat(rotvec)
    posed = body(rotation, betas, transl, vertices=mesh)
    joints = posed.joints.numpy()
    return Person(
        score=0.9,
        bbox=np.array([300, 100, 400, 400], np.float32),
        global_orient=rotvec[0].numpy(),
        body_pose=rotvec[1:].flatten().numpy(),
        betas=betas.numpy(),
        transl=transl.numpy(),
        joints=joints,
        joints_2d=CAMERA.project(joints),
        joint_confidence=np.ones(24),
        coco_2d=np.zeros((17, 2)),
        h36m=np.zeros((17, 3)),
        position=joints[0],
        position_covariance=np.eye(3) * 0.01,
        vertices=posed.vertices.numpy() if mesh else None,
        track_id=track_id,
        state="tracked",
    )


def frame_of(people: list[Person], stamp: float) -> FrameResult:
    return FrameResult(0, stamp, "simulated", 640, 480, CAMERA.K, CAMERA.D, people)


class TestSmoother:
    def test_first_frame_is_unchanged(self, body: BodyModel) -> None:
        person = standing(body, 3, np.random.default_rng(0), mesh=True)
        out = Smoother(body).update(frame_of([person], 0.0), CAMERA).people[0]
        for name in ("joints", "vertices", "transl", "betas"):
            np.testing.assert_allclose(getattr(out, name), getattr(person, name), atol=1e-5)
        np.testing.assert_allclose(out.joints_2d, person.joints_2d, atol=1e-2)

    def test_jitter_shrinks_and_fields_agree(self, body: BodyModel) -> None:
        torch.manual_seed(0)
        rng, smoother = np.random.default_rng(0), Smoother(body)
        raw, out = [], []
        for i in range(60):
            person = standing(body, 3, rng)
            raw.append(person.joints)
            out.append(smoother.update(frame_of([person], i / 30), CAMERA).people[0])
        calm = np.std([p.joints for p in out[20:]], axis=0).mean()
        assert calm < 0.5 * np.std(raw[20:], axis=0).mean()
        last = out[-1]
        np.testing.assert_allclose(last.joints_2d, CAMERA.project(last.joints), atol=1e-3)
        pelvis = last.transl + body.rest_joints(torch.tensor(last.betas))[0].numpy()
        np.testing.assert_allclose(last.joints[0], pelvis, atol=1e-5)

    def test_meshes_of_some_only(self, body: BodyModel) -> None:
        """As when a deadline left out the mesh of this frame, but a coasted person has one."""
        rng, smoother = np.random.default_rng(0), Smoother(body)
        for i in range(3):
            people = [standing(body, 1, rng, mesh=True), standing(body, 2, rng)]
            out = smoother.update(frame_of(people, i / 30), CAMERA).people
        assert out[1].vertices is None
        rotvec = np.append(out[0].global_orient, out[0].body_pose).reshape(24, 3)
        pose = roma.rotvec_to_rotmat(torch.from_numpy(rotvec))
        smooth = body(pose, torch.from_numpy(out[0].betas), torch.from_numpy(out[0].transl))
        np.testing.assert_allclose(out[0].vertices, smooth.vertices, atol=1e-4)

    def test_untracked_and_lost_pass_through(self, body: BodyModel) -> None:
        rng, smoother = np.random.default_rng(0), Smoother(body)
        for i in range(3):
            people = [standing(body, k, rng) for k in (-1, 1, 2)]
            people[2] = replace(people[2], state="lost")
            result = smoother.update(frame_of(people, i / 30), CAMERA)
        assert result.people[0] is people[0] and result.people[2] is people[2]
        assert result.people[1] is not people[1]
        assert smoother.update(frame_of([], 1.0), CAMERA).people == []
