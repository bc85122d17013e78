"""Saved predictions that are damaged, of another kind, or of other pictures: one clear line."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from set_samples import write_mupots

from mpmesh_core.body import load_body
from mpmesh_core.datasets.mupots import read_sequences
from mpmesh_core.datasets.record import FrameRecord, Picture
from mpmesh_core.errors import InputError, MPMeshError
from mpmesh_core.evaluation.predictions import frame_name, of_these, open_predictions

RECORD = FrameRecord("agora", "s", 0, Picture(Path("ag_1.png")), 3840, 2160, ())


def write_mats(folder: Path, values: dict[str, np.ndarray], compressed: bool = False) -> Path:
    for file, size in (("preds_3d_kpt_mupots.mat", 3), ("preds_2d_kpt_mupots.mat", 2)):
        content = {name: rows[..., :size] for name, rows in values.items()}
        savemat(folder / file, content, do_compression=compressed)
    return folder / "preds_3d_kpt_mupots.mat"


def one_line(error: pytest.ExceptionInfo[MPMeshError], path: Path) -> None:
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


class TestMat:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_damaged_bytes(self, tmp_path: Path, compressed: bool) -> None:
        rng = np.random.default_rng(0)
        path = write_mats(tmp_path, {"TS1_img_000000": rng.normal(size=(2, 17, 3))}, compressed)
        content = path.read_bytes()
        refused = 0
        for _ in range(60):
            changed = bytearray(content)
            for place in rng.integers(0, len(changed), 3):
                changed[place] = int(rng.integers(256))
            path.write_bytes(bytes(changed))
            try:
                open_predictions(path, "mupots")
            except MPMeshError as error:
                refused += 1
                assert str(tmp_path) in str(error) and "\n" not in str(error)
        assert refused > 5

    def test_newer_version_says_how_to_save(self, tmp_path: Path) -> None:
        path = write_mats(tmp_path, {"TS1_img_000000": np.ones((2, 17, 3))})
        path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(126) + b"IM" + bytes(64))
        with pytest.raises(InputError, match="-v7") as caught:
            open_predictions(path, "mupots")
        one_line(caught, path)

    def test_no_numbers(self, tmp_path: Path) -> None:
        words = np.full((1, 17, 3), "a", object)
        savemat(tmp_path / "preds_3d_kpt_mupots.mat", {"TS1_img_000000": words})
        savemat(tmp_path / "preds_2d_kpt_mupots.mat", {"TS1_img_000000": words})
        with pytest.raises(InputError, match="TS1_img_000000 is no array of real numbers"):
            open_predictions(tmp_path, "mupots")

    def test_complex_numbers(self, tmp_path: Path) -> None:
        path = write_mats(tmp_path, {"TS1_img_000000": np.ones((2, 17, 3)) + 1j})
        with pytest.raises(
            InputError, match="no array of real numbers but of complex128"
        ) as caught:
            open_predictions(path, "mupots")
        one_line(caught, path)


PERSON = {
    "joints": np.ones((24, 2)),
    "allSmplJoints3d": np.ones((24, 3)),
    "verts": np.ones((6890, 3)),
}


class TestPickles:
    def write(self, path: Path, people: dict[str, dict], how: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(path, "w", how) as archive:
            for name, person in people.items():
                archive.writestr(name, pickle.dumps(person))
        return path

    @pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_damaged_inside_a_zip(self, tmp_path: Path, how: int) -> None:
        path = self.write(tmp_path / "p.zip", {"ag_1_personId_0.pkl": PERSON}, how)
        content = bytearray(path.read_bytes())
        content[200:220] = bytes(20)
        path.write_bytes(bytes(content))
        with pytest.raises(InputError) as caught:
            open_predictions(path, "agora")(RECORD)
        one_line(caught, path)

    @pytest.mark.parametrize(
        ("left_out", "what"), [("joints", "no 'joints'"), ("verts", "neither 'params' nor")]
    )
    def test_something_left_out(self, tmp_path: Path, left_out: str, what: str) -> None:
        person = {key: value for key, value in PERSON.items() if key != left_out}
        path = self.write(tmp_path / "p.zip", {"ag_1_personId_0.pkl": person})
        with pytest.raises(InputError, match=what) as caught:
            open_predictions(path, "agora")(RECORD)
        one_line(caught, path)

    @pytest.mark.parametrize(
        ("name", "rows"),
        [
            ("joints", np.ones((24, 1))),
            ("joints", np.ones((20, 2))),
            ("allSmplJoints3d", np.ones((24, 2))),
        ],
    )
    def test_joints_of_another_shape(self, tmp_path: Path, name: str, rows: np.ndarray) -> None:
        person = {**PERSON, name: rows}
        path = self.write(tmp_path / "p.zip", {"ag_1_personId_0.pkl": person})
        with pytest.raises(InputError, match=f"ag_1_personId_0.pkl: '{name}' must be") as caught:
            open_predictions(path, "agora")(RECORD)
        one_line(caught, path)

    def test_parameters_of_another_skeleton(self, tmp_path: Path) -> None:
        pose = {"global_orient": np.zeros(3), "body_pose": np.zeros(60)}
        shape = {"betas": np.zeros(10), "transl": np.zeros(3)}
        person = {"joints": np.ones((24, 2)), "params": pose | shape}
        path = self.write(tmp_path / "p.zip", {"ag_1_personId_0.pkl": person})
        with pytest.raises(InputError, match=r"ag_1_personId_0\.pkl: .*24 rotations") as caught:
            open_predictions(path, "agora", load_body("open"))(RECORD)
        one_line(caught, path)

    def test_bodies_of_two_kinds(self, tmp_path: Path) -> None:
        other = {**PERSON, "verts": np.ones((99, 3))}
        people = {"ag_1_personId_0.pkl": PERSON, "ag_1_personId_1.pkl": other}
        with pytest.raises(InputError, match="unlike bodies"):
            open_predictions(self.write(tmp_path / "p.zip", people), "agora")(RECORD)

    def test_a_sequence_twice(self, tmp_path: Path) -> None:
        content = pickle.dumps({"sequence": "walk_00", "vertices": [np.ones((1, 9, 3))]})
        for name in ("a.pkl", "b.pkl"):
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"b\.pkl and .*a\.pkl are both .* walk_00"):
            open_predictions(tmp_path, "3dpw")

    @pytest.mark.parametrize("vertices", [3, None, [4.0]])
    def test_no_sequence(self, tmp_path: Path, vertices: object) -> None:
        path = tmp_path / "walk_00.pkl"
        path.write_bytes(pickle.dumps({"vertices": vertices}))
        with pytest.raises(InputError, match="not of 3DPW's format") as caught:
            open_predictions(path, "3dpw")
        one_line(caught, path)


class TestNpz:
    @pytest.mark.parametrize(
        ("arrays", "what"),
        [
            ({"image": "a"}, "'image' must have a row a person"),
            ({"image": [["a", "b"]]}, "'image' must have a row a person"),
            ({"image": ["a"], "person": ["me"]}, "'person' must hold numbers"),
            ({"image": ["a"], "joints3d": np.zeros((1, 24, 2))}, "'joints3d' must be"),
            ({"image": ["a"], "joints2d": np.zeros((1, 24))}, "'joints2d' must be"),
            ({"image": ["a"], "vertices": np.full((1, 9, 3), "a")}, "'vertices' must hold numbers"),
            ({"image": ["a"], "betas": np.zeros((2, 10))}, "'betas' has 2 rows, 'image' 1"),
            ({"joints2d": np.zeros((1, 24, 2))}, "no 'image'"),
            ({"image": [b"\xff\xfe"]}, "'image' holds no names of pictures"),
        ],
    )
    def test_arrays_that_cannot_be(self, tmp_path: Path, arrays: dict, what: str) -> None:
        path = tmp_path / "p.npz"
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=what) as caught:
            open_predictions(path, "agora")
        one_line(caught, path)

    def test_poses_of_another_skeleton(self, tmp_path: Path) -> None:
        path = tmp_path / "p.npz"
        parameters = {"pose": np.zeros((1, 70)), "betas": np.zeros((1, 10))}
        np.savez(path, image=["ag_1.png"], transl=np.zeros((1, 3)), **parameters)
        with pytest.raises(InputError, match="24 rotations") as caught:
            open_predictions(path, "agora", load_body("open"))(RECORD)
        one_line(caught, path)

    def test_a_single_array_of_that_name(self, tmp_path: Path) -> None:
        np.save(tmp_path / "p.npy", np.ones(3))
        (tmp_path / "p.npy").rename(tmp_path / "p.npz")
        with pytest.raises(InputError) as caught:
            open_predictions(tmp_path / "p.npz", "agora")
        one_line(caught, tmp_path / "p.npz")


class TestOfThesePictures:
    def test_predictions_of_other_pictures_are_no_score_of_zero(self, tmp_path: Path) -> None:
        write_mupots(tmp_path / "MuPoTS-3D")
        rows = np.ones((1, 17, 3))
        records = list(read_sequences(tmp_path, ["TS1"]))
        assert [frame_name("mupots", r.picture.path) for r in records] == [
            "TS1/0",
            "TS1/1",
            "TS1/2",
        ]
        one = open_predictions(write_mats(tmp_path, {"TS1_img_000002": rows}), "mupots")
        assert list(of_these(records, "mupots", one)) == records
        other = open_predictions(write_mats(tmp_path, {"TS7_img_000002": rows}), "mupots")
        with pytest.raises(InputError, match="they name TS7/2, the set has TS1/2"):
            list(of_these(records, "mupots", other))
