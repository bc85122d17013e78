"""Readers of data sets on real samples, put into the official layouts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from dataset_real_samples import put_3dhp, put_coco, put_h36m, put_lsp_extended, put_panoptic

from mpmesh_core.datasets import read_dataset
from mpmesh_core.datasets.check import reprojection_errors
from mpmesh_core.datasets.conventions import CONVENTIONS, correspondence
from mpmesh_core.datasets.pictures import PictureReader

DATA = Path(os.environ.get("MPMESH_TEST_DATA", ""))
pytestmark = pytest.mark.skipif(
    "MPMESH_TEST_DATA" not in os.environ or not (DATA / "gt3d").is_dir(),
    reason="MPMESH_TEST_DATA names no folder with real samples (gt3d/)",
)


def test_h36m(tmp_path: Path) -> None:
    """The joints of the sample's own 2D labels are where ours project to, lens included."""
    pytest.importorskip("cdflib")
    count = put_h36m(DATA, tmp_path)
    records = list(read_dataset("h36m", tmp_path))
    assert len(records) == count == 4
    with np.load(DATA / "gt3d/mmpose-h36m/test_h36m_body3d.npz") as file:
        truth = {str(n).split("/")[0]: part for n, part in zip(file["imgname"], file["part"])}
    rows = [i for i, _, _ in correspondence("h36m32", "h36m17")]
    order = [j for _, j, _ in correspondence("h36m32", "h36m17")]
    for record in records:
        assert record.camera is not None
        assert record.camera.model == "plumb_bob"
        joints = record.people[0].points3d["h36m32"][rows, :3].astype(np.float64)
        expected = truth[record.sequence.split("/")[0]][order, :2]
        assert np.abs(record.camera.project(joints) - expected).max() < 1.0


def test_3dhp(tmp_path: Path) -> None:
    assert put_3dhp(DATA, tmp_path) == 2
    records = list(read_dataset("mpi-inf-3dhp", tmp_path))
    assert len(records) == 2
    for record in records:
        errors = reprojection_errors(record.people[0], record)
        assert np.median(errors) < 0.05
        assert np.max(errors) < 2.5  # the set's own 2D of hips and spine is a pixel or two off
        assert PictureReader().of(record).shape == (2048, 2048, 3)


def test_panoptic_views_agree(tmp_path: Path) -> None:
    """One person's joints in five views are one set of points, and fall on what was seen there."""
    assert put_panoptic(DATA, tmp_path) >= 15
    found = json.loads((DATA / "gt3d/panoptic-derived/pseudo_gt_triangulated.json").read_text())
    errors = []
    by_moment: dict[tuple[int, int | None], list[np.ndarray]] = {}
    for record in read_dataset("panoptic", tmp_path):
        assert record.camera is not None
        view = record.sequence.split("/")[1]
        for person in record.people:
            points = person.points3d["panoptic19"]
            assert person.identity is not None
            bones = [np.linalg.norm(points[a, :3] - points[b, :3])
                     for a, b in CONVENTIONS["panoptic19"].bones
                     if points[a, 3] and points[b, 3]]  # fmt: skip
            by_moment.setdefault((record.number, person.identity), []).append(np.array(bones))
            box = found["frames"][f"{record.number:08d}"][person.identity]["views"].get(view)
            if box is not None:  # a network's box of the same person in this view
                known = points[:, 3] > 0
                pixels = record.camera.project(points[known, :3].astype(np.float64))
                low, high = np.array(box[:2]), np.array(box[2:4])
                errors += np.maximum(low - pixels, pixels - high).max(1).tolist()
    for bones in by_moment.values():  # metres and angles don't depend on the view
        assert all(np.allclose(one, bones[0], atol=1e-5) for one in bones)
        assert (bones[0] < 0.7).all()
    assert len(errors) > 100
    assert np.mean(np.array(errors) < 20) > 0.97  # inside the boxes, which are the network's


def test_coco(tmp_path: Path) -> None:
    count = put_coco(DATA, tmp_path)
    records = list(read_dataset("coco", tmp_path))
    assert len(records) == count == 24
    people = [(record, person) for record in records for person in record.people]
    assert len(people) == 66
    shares = []
    for record, person in people:
        labels = person.points2d.get("coco17", np.zeros((17, 3)))
        known = labels[labels[:, 2] > 0]
        assert (known[:, :2] >= 0).all()
        assert (known[:, :2] <= (record.width, record.height)).all()
        inside = (known[:, :2] > person.box[:2] - 3) & (known[:, :2] < person.box[2:] + 3)
        shares += inside.all(1).tolist()
    assert np.mean(shares) > 0.95
    assert PictureReader().of(records[0]).shape[2] == 3


def test_lsp_extended(tmp_path: Path) -> None:
    assert put_lsp_extended(DATA, tmp_path, 25) == 25
    records = list(read_dataset("lsp-extended", tmp_path))
    assert len(records) == 25
    reader = PictureReader()
    for record in records:
        labels = record.people[0].points2d["lsp14"]
        known = labels[labels[:, 2] > 0, :2]
        assert len(known) >= 4
        assert (known < (record.width, record.height)).all()
        reader.of(record)
