"""building the open body: each step on made-up data, and the T-pose on real anny people."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mpmesh_core.body.build.mesh import Mesh, is_watertight
from mpmesh_core.body.build.regressors import convex_regressor, joint_regressor, symmetric
from mpmesh_core.body.build.shape_space import learn_shape_space
from mpmesh_core.body.build.skinning import merge_weights
from mpmesh_core.body.build.tpose import _align, _collar, _half_twist, _swing
from mpmesh_core.body.smpl_rest import LIMB_JOINTS, SMPL_OFFSETS, rest_angles
from mpmesh_core.joints import SMPL_FLIP

MIRROR = np.array([-1.0, 1.0, 1.0])


def mirrored_cloud(rng: np.random.Generator, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (2 * half, 3) symmetric about x = 0, and each one's twin."""
    left = rng.uniform((0.05, -1, -0.2), (0.5, 0.8, 0.2), (half, 3))
    twins = np.r_[np.arange(half, 2 * half), np.arange(half)]
    return np.concatenate([left, left * MIRROR]), twins


@pytest.fixture(scope="module")
def people() -> tuple:
    """Adults and children of ten known modes, and the mirror twins."""
    rng = np.random.default_rng(0)
    template, twins = mirrored_cloud(rng, 60)
    modes = rng.normal(size=(10, 120, 3))
    modes = (modes + modes[:, twins] * MIRROR) * np.linspace(0.05, 0.005, 10)[:, None, None]
    adults = template + np.einsum("sk,kwc->swc", rng.normal(size=(400, 10)), modes)
    children = template + np.einsum("sk,kwc->swc", rng.normal(-2, 1, (80, 10)), modes)
    return adults, children, twins


class TestShapeSpace:
    def test_adults_have_unit_betas(self, people: tuple) -> None:
        adults, children, twins = people
        betas = learn_shape_space(adults, children, twins).fit(adults)
        np.testing.assert_allclose(betas.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(betas.T @ betas / len(betas), np.eye(10), atol=1e-6)

    def test_fit_and_shape_are_inverse(self, people: tuple) -> None:
        space = learn_shape_space(*people)
        betas = np.random.default_rng(1).normal(size=(5, 10))
        np.testing.assert_allclose(space.fit(space.shape(betas)), betas, atol=1e-9)

    def test_holds_all_people_of_ten_modes(self, people: tuple) -> None:
        adults, children, twins = people
        space = learn_shape_space(adults, children, twins)
        for group in (adults, children):
            np.testing.assert_allclose(space.shape(space.fit(group)), group, atol=1e-9)


class TestSkinning:
    def test_four_influences_symmetric(self) -> None:
        rng = np.random.default_rng(0)
        template, twins = mirrored_cloud(rng, 50)
        template[[0, 50], 0], twins[[0, 50]] = 0, [0, 50]  # two on the midline
        bones = (
            "root", "spine03", "neck01", "neck03", "head", "clavicle.L", "clavicle.R",
            "upperarm01.L", "upperarm01.R", "upperleg01.L", "upperleg01.R",
        )  # fmt: skip
        swap = [0, 1, 2, 3, 4, 6, 5, 8, 7, 10, 9]
        weights = rng.dirichlet(np.ones(len(bones)), 100)
        weights[51:] = weights[1:50][:, swap]
        joints = np.cumsum(np.full((24, 3), 0.01), axis=0)
        ring = np.stack([np.roll(np.arange(50), step) for step in range(3)], axis=1)
        bridge = np.array([[50, 1, 51], [50, 51, 1]])
        faces = np.concatenate([ring, twins[ring][:, ::-1], bridge])
        mesh = Mesh(np.arange(100), faces, twins)
        merged = merge_weights(weights, bones, template, mesh, joints)
        assert ((merged > 0).sum(1) <= 4).all()
        np.testing.assert_allclose(merged.sum(1), 1)
        np.testing.assert_array_equal(merged[twins][:, SMPL_FLIP], merged)


class TestRegressors:
    def test_joints_that_are_vertex_means_are_found(self) -> None:
        rng = np.random.default_rng(0)
        vertices = rng.normal(size=(1, 700, 3)) + rng.normal(0, 0.05, (300, 700, 3))
        joints = np.stack([vertices[:, j * 9 : j * 9 + 4].mean(1) for j in range(24)], axis=1)
        rows = joint_regressor(vertices, joints)
        np.testing.assert_allclose(rows.sum(1), 1)
        assert np.linalg.norm(rows @ vertices - joints, axis=-1).mean() < 0.05

    def test_convex_regressor_recovers_convex_weights(self) -> None:
        rng = np.random.default_rng(0)
        posed, true = rng.normal(size=(40, 30, 3)), rng.dirichlet(np.ones(8))
        targets = np.einsum("v,svc->sc", true, posed[:, 5:13])
        row = convex_regressor(posed, targets, np.arange(30))
        assert (row >= 0).all()
        assert row.sum() == pytest.approx(1)
        np.testing.assert_allclose(row[5:13], true, atol=1e-3)

    def test_symmetric(self) -> None:
        rng = np.random.default_rng(0)
        twins = np.r_[np.arange(5, 10), np.arange(5)]
        rows = symmetric(rng.normal(size=(24, 10)), SMPL_FLIP, twins)
        np.testing.assert_allclose(rows[list(SMPL_FLIP)][:, twins], rows)


class TestTPose:
    def test_align_brings_the_first_vector_exactly(self) -> None:
        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(2, 20, 3))
        goal, other = rng.normal(size=(2, 3))
        rotation = _align(first, second, goal, other)
        np.testing.assert_allclose(np.linalg.det(rotation), 1)
        turned = np.einsum("sij,sj->si", rotation, first)
        cosine = turned @ goal / np.linalg.norm(goal) / np.linalg.norm(first, axis=1)
        np.testing.assert_allclose(cosine, 1)

    def test_swing_is_the_least_rotation(self) -> None:
        rng = np.random.default_rng(0)
        bones, target = rng.normal(size=(20, 3)), np.array([0.1, -1.0, 0.2])
        angle = Rotation.from_matrix(_swing(bones, target)).magnitude()
        cosine = bones @ target / np.linalg.norm(target) / np.linalg.norm(bones, axis=1)
        np.testing.assert_allclose(angle, np.arccos(cosine))

    def test_half_twist(self) -> None:
        axis = np.array([0.3, -0.2, 0.9])
        unit = axis / np.linalg.norm(axis)
        angles = np.array([-2.5, -0.4, 0.0, 1.0, 3.0])
        half = _half_twist(Rotation.from_rotvec(angles[:, None] * unit).as_matrix(), axis)
        np.testing.assert_allclose(
            Rotation.from_matrix(half).as_rotvec(), angles[:, None] / 2 * unit, atol=1e-12
        )

    def test_collar_of_smpl_itself(self) -> None:
        spine3 = np.zeros((1, 3))
        shoulder = (SMPL_OFFSETS[13] + SMPL_OFFSETS[16])[None]
        np.testing.assert_allclose(_collar(spine3, shoulder), SMPL_OFFSETS[13][None], atol=1e-12)

    def test_real_people_get_smpls_limbs(self) -> None:
        pytest.importorskip("anny", reason="anny is not installed")
        from mpmesh_core.body.build.source import ADULT_YEARS, load_source
        from mpmesh_core.body.build.tpose import to_tpose

        source = load_source()
        tpose = to_tpose(source, source.sample(5, ADULT_YEARS, 7), np.arange(len(source.weights)))
        angles = rest_angles(tpose.joints)
        assert angles[:, [joint - 1 for joint in LIMB_JOINTS]].max() < 0.01
        assert angles.max() < 6
        assert is_watertight(source.faces)
        span = np.ptp(tpose.vertices[..., 0], axis=1) / np.ptp(tpose.vertices[..., 1], axis=1)
        assert ((span > 0.9) & (span < 1.1)).all()  # arm span is about the stature
