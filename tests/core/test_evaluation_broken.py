"""Truth and predictions that are missing, damaged or of another kind: one clear line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from set_samples import agora, garbage, pickled, threedpw, write_mupots, write_threedpw
from test_dataset_errors import DAMAGES, damage

from mpmesh_core.datasets import DATASETS, mupots
from mpmesh_core.errors import InputError, MissingFileError, MPMeshError
from mpmesh_core.evaluation.predictions import open_predictions
from mpmesh_core.evaluation.predictions.truths import agora_body_vertices, h36m_regressor


class TestBrokenFiles:
    @pytest.mark.parametrize("name", ["p.pkl", "p.zip", "p.npz", "p.mat", "p.jsonl"])
    @pytest.mark.parametrize("dataset", ["3dpw", "mupots", "agora"])
    def test_predictions(self, tmp_path: Path, name: str, dataset: str) -> None:
        with pytest.raises(MPMeshError) as caught:
            open_predictions(garbage(tmp_path / name), dataset)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)

    def test_no_predictions(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="do not exist"):
            open_predictions(tmp_path / "none.npz", "agora")
        (tmp_path / "empty").mkdir()
        for dataset in ("3dpw", "mupots", "agora"):
            with pytest.raises(MPMeshError):
                open_predictions(tmp_path / "empty", dataset)

    @pytest.mark.parametrize(
        ("reader", "path"),
        [
            (threedpw, "3DPW/sequenceFiles/test/a.pkl"),
            (lambda root: mupots.read_sequences(root, ["TS1"]), "MuPoTS-3D/TS1/annot.mat"),
            (
                agora,
                "AGORA/validation_0_withjv.pkl",
            ),
        ],
    )
    def test_truth(self, tmp_path: Path, reader, path: str) -> None:
        if path.startswith("AGORA"):
            pytest.importorskip("pandas", reason="AGORA's data frames need pandas")
        with pytest.raises(MissingFileError, match=r"is missing.*https://"):
            list(reader(tmp_path / "nowhere"))
        garbage(tmp_path / path)
        garbage(tmp_path / "MuPoTS-3D/TS1/occlusion.mat")
        with pytest.raises(InputError) as caught:
            list(reader(tmp_path))
        assert path in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize("kind", DAMAGES)
    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("3dpw", "3DPW/sequenceFiles/test/walk_00.pkl"),
            ("mupots", "MuPoTS-3D/TS1/annot.mat"),
            ("mupots", "MuPoTS-3D/TS1/occlusion.mat"),
        ],
    )
    def test_damaged_truth(
        self, tmp_path: Path, smpl: Path, name: str, path: str, kind: str
    ) -> None:
        if name == "3dpw":
            write_threedpw(tmp_path / "3DPW", smpl)
        else:
            write_mupots(tmp_path / "MuPoTS-3D")
        records = threedpw if name == "3dpw" else lambda root: mupots.read_sequences(root, ["TS1"])
        file = tmp_path / path
        file.write_bytes(damage(file.read_bytes(), kind))
        try:
            list(records(tmp_path))
        except MPMeshError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            assert DATASETS[name].page in str(error)
        else:
            assert kind.startswith("flips")

    @pytest.mark.parametrize("name", ["3dpw", "mupots"])
    def test_a_damaged_first_picture_is_not_one_of_unknown_size(
        self, tmp_path: Path, smpl: Path, name: str
    ) -> None:
        if name == "3dpw":
            write_threedpw(tmp_path / "3DPW", smpl)
            picture, records = "3DPW/imageFiles/walk_00/image_00000.jpg", threedpw(tmp_path)
        else:
            write_mupots(tmp_path / "MuPoTS-3D")
            picture = "MuPoTS-3D/TS1/img_000000.jpg"
            records = mupots.read_sequences(tmp_path, ["TS1"])
        garbage(tmp_path / picture)
        with pytest.raises(InputError, match=re.escape(picture)):
            next(records)

    def test_a_pickle_that_runs_code_is_refused(self, tmp_path: Path) -> None:
        class Harm:
            def __reduce__(self):
                return (print, ("harm",))

        pickled(tmp_path / "3DPW/sequenceFiles/test/a.pkl", {"sequence": Harm()})
        with pytest.raises(InputError, match=r"asks for builtins\.print"):
            list(threedpw(tmp_path))

    def test_missing_keys_are_named(self, tmp_path: Path) -> None:
        pickled(tmp_path / "3DPW/sequenceFiles/test/a.pkl", {"sequence": "a", "poses": []})
        with pytest.raises(InputError, match="no 'betas'"):
            list(threedpw(tmp_path))

    def test_missing_regressor_and_vertices(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setenv("MPMESH_SMPL_DIR", str(tmp_path))
        with pytest.raises(MissingFileError, match=r"J_regressor_h36m\.npy.*--regressor"):
            h36m_regressor()
        (tmp_path / "AGORA").mkdir()
        with pytest.raises(MissingFileError, match="--body-vertices"):
            agora_body_vertices(tmp_path)
        for wrong in (np.arange(3.0), np.array([-1, 5]), np.array([6890]), np.zeros((2, 2), int)):
            np.save(tmp_path / "b.npy", wrong)
            with pytest.raises(InputError, match=r"b\.npy"):
                agora_body_vertices(tmp_path, tmp_path / "b.npy")
