"""body model: smplx's LBS, linearity, batches, gradients, keypoints, for any SMPL-format body."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from body_samples import dense, random_people, smpl_content
from hypothesis import given, settings
from hypothesis import strategies as st

from mpmesh_core.body import BodyModel, load_body, read_body_file
from mpmesh_core.body.files import OPEN_BODY
from mpmesh_core.errors import ShapeError, UsageError
from mpmesh_core.joints import POINT_PARENTS, SMPL_PARENTS


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made_up = tmp_path_factory.mktemp("body") / "made_up.npz"
    np.savez(made_up, **dense(smpl_content()))
    return {"open": OPEN_BODY, "correctives": made_up}


@pytest.fixture(scope="module", params=["open", "correctives"])
def path(request: pytest.FixtureRequest, paths: dict[str, Path]) -> Path:
    return paths[request.param]


@pytest.fixture(scope="module")
def body(path: Path) -> BodyModel:
    return load_body(path)


@pytest.fixture(scope="module")
def exact(path: Path) -> BodyModel:
    return load_body(path, dtype=torch.float64)


class TestForward:
    def test_equals_smplx(self, path: Path, body: BodyModel) -> None:
        lbs = pytest.importorskip("smplx.lbs", reason="smplx is not installed").lbs
        arrays = read_body_file(path)
        count = len(arrays.v_template)
        posedirs = np.zeros((count, 3, 207)) if arrays.posedirs is None else arrays.posedirs
        rotations, betas, transl = random_people(16)
        vertices, joints = lbs(
            betas,
            rotations,
            body.v_template.expand(16, -1, -1),
            body.shapedirs,
            torch.from_numpy(posedirs).float().reshape(-1, 207).T,
            body.J_regressor,
            torch.tensor(SMPL_PARENTS),
            body.weights,
            pose2rot=False,
        )
        output = body(rotations, betas, transl)
        assert (output.vertices - vertices - transl[:, None]).abs().max() < 1e-5
        assert (output.joints - joints - transl[:, None]).abs().max() < 1e-5

    def test_rest_pose_is_the_shaped_template(self, exact: BodyModel) -> None:
        _, betas, transl = random_people(3, torch.float64)
        rest = torch.eye(3, dtype=torch.float64).expand(3, 24, 3, 3)
        output = exact(rest, betas, transl)
        shaped = exact.v_template + torch.einsum("vck,nk->nvc", exact.shapedirs, betas)
        torch.testing.assert_close(output.vertices, shaped + transl[:, None])
        torch.testing.assert_close(output.joints, exact.J_regressor @ shaped + transl[:, None])
        torch.testing.assert_close(output.points, exact.rest_points(betas) + transl[:, None])

    def test_pelvis_is_transl_plus_rest_pelvis(self, exact: BodyModel) -> None:
        rotations, betas, transl = random_people(5, torch.float64)
        output = exact(rotations, betas, transl, vertices=False)
        pelvis = transl + exact.rest_joints(betas)[:, 0]
        torch.testing.assert_close(output.joints[:, 0], pelvis)

    def test_a_turned_root_turns_everything_about_the_pelvis(self, exact: BodyModel) -> None:
        rotations, betas, transl = random_people(2, torch.float64)
        turn = roma.random_rotmat(dtype=torch.float64)
        turned = rotations.clone()
        turned[:, 0] = turn @ rotations[:, 0]
        before, after = exact(rotations, betas, transl), exact(turned, betas, transl)
        pelvis = before.joints[:, :1]
        torch.testing.assert_close(
            after.vertices, pelvis + (before.vertices - pelvis) @ turn.T, atol=1e-9, rtol=0
        )

    def test_global_rotations_carry_the_bones(self, exact: BodyModel) -> None:
        rotations, betas, transl = random_people(4, torch.float64)
        output, rest = exact(rotations, betas, transl, vertices=False), exact.rest_points(betas)
        for child, parent in enumerate(POINT_PARENTS[1:], start=1):
            bone = (rest[:, child] - rest[:, parent]).unsqueeze(-1)
            carried = (output.global_rotations[:, parent] @ bone).squeeze(-1)
            torch.testing.assert_close(
                output.points[:, child] - output.points[:, parent], carried, atol=1e-9, rtol=0
            )

    def test_without_vertices_the_rest_is_the_same(self, body: BodyModel) -> None:
        people = random_people(3)
        full, light = body(*people), body(*people, vertices=False)
        assert light.vertices is None
        torch.testing.assert_close(full.points, light.points, atol=0, rtol=0)

    def test_one_person_alone_or_among_others(self, body: BodyModel) -> None:
        rotations, betas, transl = random_people(32)
        together = body(rotations, betas, transl)
        alone = body(rotations[5], betas[5], transl[5])
        assert (together.vertices[5] - alone.vertices).abs().max() < 1e-6
        assert (together.points[5] - alone.points).abs().max() < 1e-6

    def test_a_broken_neighbour_changes_nothing(self, body: BodyModel) -> None:
        rotations, betas, transl = random_people(3)
        clean = body(rotations, betas, transl)
        rotations[1] = torch.nan
        broken = body(rotations, betas, transl)
        torch.testing.assert_close(broken.vertices[[0, 2]], clean.vertices[[0, 2]])
        assert broken.vertices[1].isnan().any()

    @pytest.mark.parametrize("leading", [(), (0,), (1,), (2, 3), (0, 4)])
    def test_any_leading_dimensions(self, body: BodyModel, leading: tuple[int, ...]) -> None:
        output = body(
            torch.eye(3).expand(*leading, 24, 3, 3),
            torch.zeros(*leading, 10),
            torch.zeros(*leading, 3),
        )
        assert output.vertices.shape == (*leading, len(body.v_template), 3)
        assert output.points.shape == (*leading, 29, 3)
        assert output.joints.shape == (*leading, 24, 3)
        assert output.global_rotations.shape == (*leading, 24, 3, 3)

    def test_wrong_shapes_are_named(self, body: BodyModel) -> None:
        rotations, betas, transl = random_people(2)
        with pytest.raises(ShapeError, match="rotations"):
            body(rotations[:, :23], betas, transl)
        with pytest.raises(ShapeError, match="betas"):
            body(rotations, betas[:, :9], transl)
        with pytest.raises(ShapeError, match="transl"):
            body(rotations, betas, transl[:, :2])

    def test_gradients(self, paths: dict[str, Path]) -> None:
        exact = load_body(paths["correctives"], dtype=torch.float64)
        inputs = [value.requires_grad_() for value in random_people(1, torch.float64)]

        def outputs(rotations: torch.Tensor, betas: torch.Tensor, transl: torch.Tensor) -> tuple:
            output = exact(rotations, betas, transl)
            coco = exact.keypoints(rotations, betas, transl, "coco17")
            return output.points, output.vertices[:, ::9], coco

        assert torch.autograd.gradcheck(outputs, inputs)

    def test_dtype_follows_the_request(self, paths: dict[str, Path]) -> None:
        exact = load_body(paths["open"], dtype=torch.float64)
        output = exact(*random_people(2, torch.float64))
        assert output.vertices.dtype == torch.float64

    def test_holds_nothing_to_train_or_save(self, body: BodyModel) -> None:
        assert not list(body.parameters())
        assert not body.state_dict()


class TestKeypoints:
    @pytest.mark.parametrize("which", ["coco17", "h36m17"])
    def test_equals_regressor_times_vertices(
        self, path: Path, exact: BodyModel, which: str
    ) -> None:
        regressors = read_body_file(path).keypoint_regressors
        if which not in regressors:
            pytest.skip("the made-up body has COCO keypoints only")
        people = random_people(7, torch.float64)
        by_hand = torch.from_numpy(regressors[which]) @ exact(*people).vertices
        found = exact.keypoints(*people, which)  # rows sum to 1 in single precision only
        torch.testing.assert_close(found, by_hand, atol=1e-7, rtol=0)

    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 10_000), count=st.integers(0, 4))
    def test_single_precision_is_enough(self, seed: int, count: int) -> None:
        body, exact = load_open(torch.float32), load_open(torch.float64)
        people = random_people(count, torch.float64, seed)
        rough = body.keypoints(*(value.float() for value in people), "coco17")
        assert rough.shape == (count, 17, 3)
        torch.testing.assert_close(
            rough.double(), exact.keypoints(*people, "coco17"), atol=2e-6, rtol=1e-6
        )

    def test_unknown_set_names_the_known_ones(self, body: BodyModel) -> None:
        with pytest.raises(UsageError, match="coco17"):
            body.keypoints(*random_people(1), "lsp")  # type: ignore[arg-type]


_OPEN: dict[torch.dtype, BodyModel] = {}


def load_open(dtype: torch.dtype) -> BodyModel:
    """The open body, loaded once (hypothesis and fixtures don't mix)."""
    return _OPEN.setdefault(dtype, load_body("open", dtype=dtype))
