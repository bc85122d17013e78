"""body files: npz and pkl of the SMPL format, and every way in which they can be wrong."""

from __future__ import annotations

import copyreg
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from body_samples import dense, smpl_content
from real_samples import needs_samples
from scipy.sparse import csc_matrix

from mpmesh_core.body import find_body_file, load_body, read_body_file
from mpmesh_core.body.files import H36M_FILE, OPEN_BODY, SMPL_TIPS
from mpmesh_core.errors import InputError, MissingFileError, MPMeshError, UsageError, WeightsError
from mpmesh_core.joints import H36M_JOINTS

SMPL_H = {
    "kintree_table": np.array([(2**32 - 1, *range(51)), range(52)], np.uint32),
    "J_regressor": np.zeros((52, 97)),
    "weights": np.zeros((97, 52)),
}


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "body.npz"
    np.savez(path, **dense(smpl_content()))
    return path


def write_chumpy_pickle(path: Path, content: dict, protocol: int = 2) -> None:
    """Pickle as SMPL's own files are: some arrays inside chumpy objects, by Python 2's names."""
    module = types.ModuleType("chumpy.ch")
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    product = type("MatVecMult", (), {"__module__": "chumpy.ch"})
    module.Ch, module.MatVecMult = ch, product  # type: ignore[attr-defined]
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = types.ModuleType("chumpy"), module
    try:
        wrapped = dict(content)
        for key in ("v_template", "shapedirs"):
            wrapped[key] = ch()
            wrapped[key].x = content[key]
            wrapped[key]._dirty_vars = set()  # as chumpy's own state has it
        wrapped["J"] = product()  # an expression that nobody needs
        wrapped["J"].mtx = content["J_regressor"]
        path.write_bytes(pickle.dumps(wrapped, protocol=protocol))
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]


class TestNpz:
    def test_reads_back(self, npz: Path) -> None:
        content, arrays = smpl_content(), read_body_file(npz)
        np.testing.assert_array_equal(arrays.v_template, content["v_template"])
        np.testing.assert_array_equal(arrays.J_regressor, content["J_regressor"].toarray())
        np.testing.assert_array_equal(arrays.faces, content["f"])
        assert arrays.posedirs is not None
        assert set(arrays.keypoint_regressors) == {"coco17"}

    def test_fewer_components_are_padded_and_more_cut(self, tmp_path: Path) -> None:
        for given in (4, 16):
            content = dense(smpl_content())
            content["shapedirs"] = np.ones((97, 3, given))
            np.savez(tmp_path / "body.npz", **content)
            arrays = read_body_file(tmp_path / "body.npz")
            assert arrays.shapedirs.shape == (97, 3, 10)
            assert arrays.shapedirs.sum() == 97 * 3 * min(given, 10)

    def test_zero_correctives_count_as_none(self, tmp_path: Path) -> None:
        content = dense(smpl_content())
        content["posedirs"] = np.zeros((97, 3, 207), np.int8)
        np.savez(tmp_path / "body.npz", **content)
        assert read_body_file(tmp_path / "body.npz").posedirs is None

    def test_original_smpl_size_brings_tips_and_keypoints(self, tmp_path: Path) -> None:
        content = dense(smpl_content(6890, tips=False))
        content["posedirs"] = np.zeros((6890, 3, 207), np.int8)
        np.savez(tmp_path / "SMPL_NEUTRAL.npz", **content)
        arrays = read_body_file(tmp_path / "SMPL_NEUTRAL.npz")
        np.testing.assert_array_equal(arrays.tip_regressor.argmax(1), SMPL_TIPS)
        assert set(arrays.keypoint_regressors) == {"coco17", "h36m17"}

    def test_h36m_regressor_beside_the_file(self, tmp_path: Path) -> None:
        beside = np.random.default_rng(0).dirichlet(np.ones(97), 17)
        np.save(tmp_path / "J_regressor_h36m.npy", beside)
        np.savez(tmp_path / "body.npz", **dense(smpl_content()))
        found = read_body_file(tmp_path / "body.npz").keypoint_regressors["h36m17"]
        legs = {name: found[H36M_JOINTS.index(name)] for name in ("left_knee", "right_knee")}
        np.testing.assert_array_equal(legs["left_knee"], beside[2])  # the file: left leg first
        np.testing.assert_array_equal(legs["right_knee"], beside[5])
        np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(beside, axis=0))

    def test_damaged_regressor_beside_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "J_regressor_h36m.npy").write_bytes(b"no array")
        np.savez(tmp_path / "body.npz", **dense(smpl_content()))
        with pytest.raises(InputError, match=r"J_regressor_h36m\.npy is no regressor"):
            read_body_file(tmp_path / "body.npz")

    def test_legs_of_the_real_regressor(self) -> None:
        """SMPL's left toe is vertex 3216, the right one 6617; ankles are made of near ones."""
        beside = np.load(needs_samples("gt3d/regressors") / "J_regressor_h36m.npy")
        middle = beside[list(H36M_FILE)] @ np.arange(6890)
        assert middle[H36M_JOINTS.index("left_ankle")] < 3445
        assert middle[H36M_JOINTS.index("right_ankle")] > 3445


class TestPickle:
    @pytest.mark.parametrize("protocol", [0, 1, 2])  # what Python 2 can write
    def test_chumpy_pickle_equals_npz(self, tmp_path: Path, npz: Path, protocol: int) -> None:
        write_chumpy_pickle(tmp_path / "SMPL_MALE.pkl", smpl_content(), protocol)
        from_pickle, from_npz = read_body_file(tmp_path / "SMPL_MALE.pkl"), read_body_file(npz)
        for key, value in from_npz.float_arrays().items():
            np.testing.assert_array_equal(from_pickle.float_arrays()[key], value)

    def test_code_in_a_pickle_does_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple:
                return (open, (str(tmp_path / "hacked"), "w"))

        path = tmp_path / "SMPL_MALE.pkl"
        path.write_bytes(pickle.dumps({"v_template": Evil()}))
        with pytest.raises(WeightsError, match="no SMPL file needs"):
            read_body_file(path)
        assert not (tmp_path / "hacked").exists()

    def test_ending_in_capitals(self, tmp_path: Path) -> None:
        path = tmp_path / "SMPL_MALE.PKL"
        path.write_bytes(pickle.dumps(smpl_content()))
        assert read_body_file(path).v_template.shape == (97, 3)

    @pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
    def test_indices_beyond_a_matrix_are_refused(self, tmp_path: Path, kind: str) -> None:
        """SciPy would write past its arrays, and Python crash."""
        content, path = smpl_content(), tmp_path / "SMPL_MALE.pkl"
        matrix = content["J_regressor"].asformat(kind)
        path.write_bytes(pickle.dumps({**content, "J_regressor": matrix}))
        assert read_body_file(path).J_regressor.shape == (24, 97)
        (matrix.row if kind == "coo" else matrix.indices)[0] = 2**30
        path.write_bytes(pickle.dumps({**content, "J_regressor": matrix}))
        with pytest.raises(WeightsError, match="'J_regressor' is no array of numbers"):
            read_body_file(path)

    @pytest.mark.parametrize("value", ["x", [[1], [1, 2]], {}, [[10**30, 0, 1]]])
    @pytest.mark.parametrize("key", ["v_template", "kintree_table", "f", "posedirs"])
    def test_no_numbers(self, tmp_path: Path, key: str, value: object) -> None:
        path = tmp_path / "SMPL_MALE.pkl"
        path.write_bytes(pickle.dumps({**smpl_content(), key: value}))
        with pytest.raises(WeightsError, match=r"SMPL_MALE\.pkl") as caught:
            read_body_file(path)
        assert "\n" not in str(caught.value)

    def test_state_of_a_type_is_not_trusted(self, tmp_path: Path) -> None:
        """An array of numbers that says it holds objects would be read as their addresses."""
        content = pickle.dumps({**smpl_content(), "J_regressor": np.ones((24, 97))}, protocol=2)
        flags = (
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t",
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft",
        )
        assert flags[0] in content
        (tmp_path / "x.pkl").write_bytes(content.replace(*flags))
        arrays = read_body_file(tmp_path / "x.pkl")
        np.testing.assert_array_equal(arrays.v_template, smpl_content()["v_template"])

    def test_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "x.pkl").write_bytes(b"\x80\x02NQ.")  # asks for a persistent object
        with pytest.raises(WeightsError, match="persistent") as caught:
            read_body_file(tmp_path / "x.pkl")
        assert "\n" not in str(caught.value)

    def test_unknown_encoding(self, tmp_path: Path) -> None:
        content = pickle.dumps(smpl_content(), protocol=2).replace(b"latin1", b"nowhr1")
        (tmp_path / "x.pkl").write_bytes(content)
        with pytest.raises(WeightsError, match="file is damaged"):
            read_body_file(tmp_path / "x.pkl")

    def test_reconstructor_gives_no_way_out(self, tmp_path: Path) -> None:
        path = tmp_path / "SMPL_MALE.pkl"
        path.write_bytes(pickle.dumps({"f": copyreg.__newobj__}))
        with pytest.raises(WeightsError, match="no SMPL file needs"):
            read_body_file(path)

    @pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2])])
    def test_not_a_body(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.pkl").write_bytes(content)
        with pytest.raises(WeightsError, match="not a readable SMPL"):
            read_body_file(tmp_path / "x.pkl")


class TestErrors:
    def test_missing_smpl_says_where_from_and_where_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MPMESH_SMPL_DIR", str(tmp_path))
        with pytest.raises(MissingFileError) as caught:
            load_body("smpl", gender="female")
        text = str(caught.value)
        assert "\n" not in text
        for part in ("SMPL_FEMALE.pkl", str(tmp_path), "https://smpl.is.tue.mpg.de"):
            assert part in text

    def test_smpl_folder_is_searched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MPMESH_SMPL_DIR", str(tmp_path))
        write_chumpy_pickle(tmp_path / "SMPL_FEMALE.pkl", smpl_content())
        assert load_body("smpl", gender="female").v_template.shape == (97, 3)

    def test_unknown_gender(self) -> None:
        with pytest.raises(UsageError, match="neutral, male, female"):
            find_body_file("smpl", "robot")

    def test_missing_path(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="give 'open', 'smpl'"):
            load_body(tmp_path / "nowhere.npz")

    @pytest.mark.parametrize("cut", [0, 10, 4000, -3000])
    def test_truncated_npz(self, tmp_path: Path, cut: int) -> None:
        path = tmp_path / "broken.npz"
        path.write_bytes(OPEN_BODY.read_bytes()[:cut])
        with pytest.raises(WeightsError, match=r"broken\.npz is not a readable \.npz body file"):
            load_body(path)

    def test_damaged_bytes(self, tmp_path: Path) -> None:
        content = bytearray(OPEN_BODY.read_bytes())
        content[200_000:200_400] = bytes(400)
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(WeightsError):
            load_body(tmp_path / "broken.npz")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"weights": None}, "it has no 'weights'"),
            ({"weights": np.zeros((96, 24))}, "'weights' must have shape"),
            ({"kintree_table": np.zeros((2, 52), int)}, "52 joints are not SMPL's 24"),
            ({"f": np.full((2, 3), 97)}, "indices of its 97 vertices"),
            ({"v_template": np.full((97, 3), np.nan)}, "NaN"),
            ({"tip_regressor": None}, "no 'tip_regressor'"),
            ({"f": np.zeros((0, 3), int)}, r"f must hold \(F, 3\)"),
            ({"f": np.full((2, 3), np.nan)}, "'f' is no array of numbers"),
            ({"mirror": np.full(97, 97)}, r"mirror must hold \(97,\) indices"),
            ({"J_regressor": np.array(csc_matrix((24, 97)))}, r"save J_regressor\.toarray\(\)"),
            (SMPL_H, r"52 joints are not SMPL's 24 \(is it an SMPL-H"),
            ({"metadata": np.array("{name: ")}, "damaged metadata"),
        ],
    )
    def test_wrong_content(self, tmp_path: Path, change: dict, message: str) -> None:
        content = {**dense(smpl_content()), **change}
        content = {key: value for key, value in content.items() if value is not None}
        np.savez(tmp_path / "body.npz", **content)
        with pytest.raises(MPMeshError, match=message) as caught:
            load_body(tmp_path / "body.npz")
        assert "body.npz" in str(caught.value)
