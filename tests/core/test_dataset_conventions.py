"""Joints of the conventions, and which of them mean the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpmesh_core.body import load_body
from mpmesh_core.datasets.conventions import CONVENTIONS, convention, convert, correspondence
from mpmesh_core.errors import UsageError

NAMES = st.sampled_from(list(CONVENTIONS))
SIZES = {
    "points": 29, "smpl24": 24, "coco17": 17, "lsp14": 14, "mpii16": 16, "panoptic19": 19,
    "h36m17": 17, "h36m32": 32, "mpi28": 28, "mpi17": 17, "muco21": 21, "sailvos26": 26,
    "openpose18": 18, "mpi17_univ": 17,
}  # fmt: skip


class TestNames:
    def test_sizes(self) -> None:
        assert {name: len(c.names) for name, c in CONVENTIONS.items()} == SIZES

    @given(NAMES)
    def test_flip_is_its_own_inverse_and_swaps_sides(self, name: str) -> None:
        c = convention(name)
        assert len(set(c.names)) == len(c.names)
        for index, twin in enumerate(c.flip):
            assert c.flip[twin] == index
            assert c.names[index].startswith("left") == c.names[twin].startswith("right")

    @given(NAMES)
    def test_bones_join_joints_of_one_side_or_the_middle(self, name: str) -> None:
        c = convention(name)
        assert len(c.bones) >= 9
        for a, b in c.bones:
            sides = {c.names[i].split("_")[0] for i in (a, b)} & {"left", "right"}
            assert len(sides) < 2 or c.flip[a] == b

    def test_unknown(self) -> None:
        with pytest.raises(UsageError, match="coco17"):
            convention("coco")


class TestConvert:
    @given(NAMES, NAMES, st.integers(0, 2**31))
    def test_only_joints_of_one_name(self, source: str, target: str, seed: int) -> None:
        points = np.random.default_rng(seed).normal(size=(SIZES[source], 4)).astype(np.float32)
        points[:, 3] = 1
        made = convert(points, source, target)
        assert made.shape == (SIZES[target], 4)
        for name, row in zip(convention(target).names, made):
            if row[3]:
                assert row[3] <= 1
                assert np.array_equal(row[:3], points[convention(source).names.index(name), :3])
            else:
                assert not row.any()

    @given(NAMES, NAMES)
    def test_sides_are_treated_alike(self, source: str, target: str) -> None:
        a, b = convention(source), convention(target)
        rows = set(correspondence(source, target))
        assert {(a.flip[i], b.flip[j], weight) for i, j, weight in rows} == rows

    @given(NAMES, NAMES)
    def test_both_ways_alike(self, source: str, target: str) -> None:
        rows = {(j, i, weight) for i, j, weight in correspondence(source, target)}
        if {source, target} - {"h36m32", "h36m17", "mpi28", "mpi17"}:
            assert rows == set(correspondence(target, source))

    @given(NAMES)
    def test_itself(self, name: str) -> None:
        rows = correspondence(name, name)
        assert rows == tuple((i, i, 1.0) for i in range(SIZES[name]))

    def test_nothing_known_stays_unknown(self) -> None:
        points = np.ones((17, 3), np.float32)
        points[:, 2] = 0
        assert not convert(points, "coco17", "points")[:, 2].any()

    def test_the_17_of_the_32(self) -> None:
        used = [i for i, _, _ in correspondence("h36m32", "h36m17")]
        assert used == [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]

    @pytest.mark.parametrize("pair", [("coco17", "points"), ("h36m17", "points")])
    def test_what_counts_in_full_lies_within_3_cm(self, pair: tuple[str, str]) -> None:
        """The table of the module, on the open body."""
        body, generator = load_body("open"), torch.Generator().manual_seed(0)
        import roma

        vectors = 0.25 * torch.randn(64, 24, 3, generator=generator)
        rotations, betas = roma.rotvec_to_rotmat(vectors), torch.randn(64, 10, generator=generator)
        points = body(rotations, betas, torch.zeros(64, 3), vertices=False).points
        made = {"points": points}
        for name in ("coco17", "h36m17"):
            made[name] = body.keypoints(rotations, betas, torch.zeros(64, 3), name)
        rows = correspondence(*pair)
        assert len(rows) >= 8
        for i, j, weight in rows:
            distance = (made[pair[0]][:, i] - made[pair[1]][:, j]).norm(dim=-1).mean()
            assert weight == 1.0
            assert distance < 0.031

    def test_hips_of_motion_capture_are_left_out(self) -> None:
        names = convention("points").names
        used = {names[j] for _, j, _ in correspondence("h36m32", "points")}
        assert not used & {"pelvis", "left_hip", "left_shoulder", "head_top", "neck"}
        assert {"left_wrist", "right_knee", "left_ankle", "right_elbow"} <= used
