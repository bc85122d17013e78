"""3DPW, MuPoTS-3D and AGORA from files in the official layouts, and saved predictions."""

import dataclasses
import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from people_samples import random_person
from real_samples import needs_samples
from scipy.io import savemat
from set_samples import (
    agora,
    pickled,
    posed,
    threedpw,
    write_agora,
    write_mupots,
    write_threedpw,
)

from mpmesh_core import cli
from mpmesh_core.body import load_body
from mpmesh_core.body.files import H36M_FILE
from mpmesh_core.datasets import mupots, read_dataset
from mpmesh_core.errors import InputError, MissingFileError, MPMeshError, UsageError
from mpmesh_core.evaluation.by_pipeline import PipelinePeople
from mpmesh_core.evaluation.predictions import frame_name, open_predictions
from mpmesh_core.evaluation.predictions.found import MPI17_OF_H36M
from mpmesh_core.evaluation.predictions.truths import (
    SmplMeshes,
    agora_body_vertices,
    h36m_regressor,
)
from mpmesh_core.evaluation.protocol import ProtocolReport
from mpmesh_core.evaluation.protocol_page import protocol_page
from mpmesh_core.evaluation.score_agora import score_agora
from mpmesh_core.evaluation.score_mupots import score_mupots
from mpmesh_core.evaluation.score_threedpw import score_threedpw
from mpmesh_core.evaluation.threedpw import COMPARED, points_box
from mpmesh_core.joints import H36M_JOINTS
from mpmesh_core.outputs import ResultsWriter
from mpmesh_core.types import FrameResult


class TestThreedpw:
    def test_people_stand_where_the_camera_sees_them(self, tmp_path: Path, smpl: Path) -> None:
        truth = write_threedpw(tmp_path / "3DPW", smpl)
        records = list(threedpw(tmp_path))
        meshes = SmplMeshes()
        assert [record.number for record in records] == [0, 1, 2]
        for record in records:
            assert (record.width, record.height) == (640, 480)
            for number, person in enumerate(record.people):
                joints = person.points3d["smpl24"][:, :3]
                assert np.allclose(joints, truth["joints"][number][record.number])
                assert person.smpl is not None
                mesh = truth["vertices"][number][record.number]
                assert np.abs(meshes(person.smpl) + person.smpl.transl - mesh).max() < 1e-5
                pixels = record.camera.project(joints[:18])
                assert np.allclose(pixels, person.points2d["openpose18"][:, :2])
        assert [p.valid for p in records[-1].people] == [False, True]
        assert [p.smpl.gender for p in records[0].people] == ["male", "female"]

    def score(self, root: Path, file: Path) -> ProtocolReport:
        find = open_predictions(file, "3dpw", None)
        regressor = h36m_regressor()
        return score_threedpw(threedpw(root), find, SmplMeshes(), regressor, "mine")

    def test_vertices_of_any_place_are_perfect(self, tmp_path: Path, smpl: Path) -> None:
        truth = write_threedpw(tmp_path / "3DPW", smpl)
        vertices = [mesh + 3.0 for mesh in truth["vertices"]]
        vertices[0][0] = np.nan  # not found
        path = tmp_path / "out.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("test/walk_00.pkl", pickle.dumps({"vertices": vertices}))
        report = self.score(tmp_path, path)
        assert report.figures["people"] == 5 and report.figures["without prediction"] == 1
        assert all(report.figures[f"{n} [mm]"] < 0.01 for n in ("MPJPE", "PA-MPJPE", "PVE"))

    def test_parameters_are_posed(self, tmp_path: Path, smpl: Path) -> None:
        write_threedpw(tmp_path / "3DPW", smpl)
        people = [[record.people[p].smpl for record in threedpw(tmp_path)] for p in (0, 1)]
        content = {
            "sequence": "walk_00",
            "poses": [[np.r_[s.global_orient, s.body_pose] for s in person] for person in people],
            "betas": [person[0].betas for person in people],
        }
        file = pickled(tmp_path / "mine.pkl", content)
        with pytest.raises(UsageError, match="--body smpl"):
            self.score(tmp_path, file)
        find = open_predictions(file, "3dpw", load_body("smpl"))
        records = threedpw(tmp_path)
        report = score_threedpw(records, find, SmplMeshes(), h36m_regressor(), "mine")
        assert report.figures["PVE [mm]"] < 0.01

    def test_regressor_that_does_not_sum_to_one(self, tmp_path: Path, smpl: Path) -> None:
        """SPIN's own steps: both meshes from SMPL without translation."""
        write_threedpw(tmp_path / "3DPW", smpl)
        rng = np.random.default_rng(3)
        records = list(threedpw(tmp_path))
        labels = [[record.people[p].smpl for record in records] for p in (0, 1)]
        poses = [[np.r_[s.global_orient, s.body_pose] for s in person] for person in labels]
        content = {
            "sequence": "walk_00",
            "poses": [np.array(p) + 0.2 * rng.normal(size=(3, 72)) for p in poses],
            "betas": rng.normal(size=(2, 10)),
        }
        file = pickled(tmp_path / "mine.pkl", content)
        find = open_predictions(file, "3dpw", load_body("smpl"))
        regressor, nowhere = h36m_regressor(), np.zeros((3, 3))
        report = score_threedpw(records, find, SmplMeshes(), regressor, "mine")
        wanted = []
        for person in (0, 1):
            shapes = [s.betas for s in labels[person]]
            known = posed(smpl / "SMPL_MALE.npz", np.array(poses[person]), shapes, nowhere)[1]
            own = [content["betas"][person]] * 3
            found = posed(smpl / "SMPL_MALE.npz", content["poses"][person], own, nowhere)[1]
            sets = [
                (regressor @ m)[:, list(COMPARED)] - (regressor @ m)[:, :1] for m in (known, found)
            ]
            errors = np.linalg.norm(sets[0] - sets[1], axis=-1).mean(-1)
            wanted += [e for e, r in zip(errors, records) if r.people[person].valid]
        assert abs(report.figures["MPJPE [mm]"] - 1e3 * np.mean(wanted)) < 1e-3
        # Meshes where the camera sees them give nearly the same.
        body, far = smpl / "SMPL_MALE.npz", nowhere + 6.0
        shapes = [[betas] * 3 for betas in content["betas"]]
        placed = [posed(body, content["poses"][p], shapes[p], far)[1] for p in (0, 1)]
        file = pickled(tmp_path / "m.pkl", {"sequence": "walk_00", "vertices": placed})
        again = self.score(tmp_path, file)
        assert abs(again.figures["MPJPE [mm]"] - report.figures["MPJPE [mm]"]) < 0.1

    def test_rows_of_an_npz(self, tmp_path: Path, smpl: Path) -> None:
        truth = write_threedpw(tmp_path / "3DPW", smpl)
        np.savez(
            tmp_path / "mine.npz",
            image=["imageFiles/walk_00/image_00001.jpg"],
            person=[1],
            vertices=(truth["vertices"][1][1] * 1.1 + 3.0)[None],
        )
        report = self.score(tmp_path, tmp_path / "mine.npz")
        assert report.figures["without prediction"] == 4
        assert report.figures["PA-MPJPE [mm]"] < 0.01 < report.figures["MPJPE [mm]"]

    def test_a_person_twice_in_a_picture_is_refused(self, tmp_path: Path, smpl: Path) -> None:
        truth = write_threedpw(tmp_path / "3DPW", smpl)
        path, mesh = tmp_path / "mine.npz", truth["vertices"][1][1]
        rows = {
            "image": ["imageFiles/walk_00/image_00001.jpg"] * 3,
            "vertices": np.stack([mesh, mesh * 1.1, mesh]),
        }
        np.savez(path, **rows, person=[1, 1, 0])
        with pytest.raises(InputError, match=r"mine\.npz: person 1 is twice in walk_00/1"):
            self.score(tmp_path, path)
        # Somebody whom the truth doesn't know, or a row that says "not found", is no second one.
        np.savez(path, **rows, person=[1, -1, -1])
        assert self.score(tmp_path, path).figures["without prediction"] == 4
        rows["vertices"][1] = np.nan
        np.savez(path, **rows, person=[1, 1, 0])
        assert self.score(tmp_path, path).figures["without prediction"] == 3

    def test_meshes_of_another_body_say_how_many_vertices(self, tmp_path: Path, smpl: Path) -> None:
        truth = write_threedpw(tmp_path / "3DPW", smpl)
        count = truth["vertices"][0].shape[1]
        vertices = [mesh[:, :50] for mesh in truth["vertices"]]
        file = pickled(tmp_path / "walk_00.pkl", {"vertices": vertices})
        wanted = rf"walk_00\.pkl gives meshes of 50 vertices: SMPL's {count} .* joints"
        with pytest.raises(InputError, match=wanted):
            self.score(tmp_path, file)

    def test_own_results_are_assigned_in_the_picture(self, tmp_path: Path, smpl: Path) -> None:
        truth = write_threedpw(tmp_path / "3DPW", smpl)
        rng = np.random.default_rng(0)
        writer = ResultsWriter(tmp_path / "run")
        camera = next(threedpw(tmp_path)).camera
        people = []
        for number in (1, 0):
            person = random_person(rng)
            joints = truth["joints"][number][0]
            fields = vars(person) | {"joints": joints, "joints_2d": camera.project(joints)}
            people.append(type(person)(**fields))
        name = "3DPW/imageFiles/walk_00/image_00000.jpg"
        result = FrameResult(0, 0.0, name, 640, 480, camera.K, np.zeros(0), people)
        writer.write(result)
        report = self.score(tmp_path, tmp_path / "run")
        assert report.figures["without prediction"] == 3
        assert np.isnan(report.figures["PVE [mm]"])
        assert "own Human3.6M joints" in report.protocol.regressor
        assert "assigned in the picture" in report.protocol.matching

    def test_results_of_another_body_are_refused(self, tmp_path: Path, smpl: Path) -> None:
        write_threedpw(tmp_path / "3DPW", smpl)
        person = random_person(np.random.default_rng(0))
        name = "imageFiles/walk_00/image_00000.jpg"
        result = FrameResult(
            0, 0.0, name, 640, 480, np.diag([500, 500, 1.0]), np.zeros(0), [person]
        )
        ResultsWriter(tmp_path / "run").write(result)
        find = open_predictions(tmp_path / "run", "3dpw", load_body("smpl"))
        with pytest.raises(InputError, match="name the body that made them with --body"):
            find(next(threedpw(tmp_path)))

    def test_nobody_to_compare(self, tmp_path: Path, smpl: Path) -> None:
        write_threedpw(tmp_path / "3DPW", smpl)
        file = pickled(tmp_path / "mine.pkl", {"sequence": "other", "vertices": []})
        with pytest.raises(InputError, match="none of the 5 valid people"):
            self.score(tmp_path, file)


class TestMupots:
    def test_labels_and_the_fitted_camera(self, tmp_path: Path) -> None:
        pixels, joints = write_mupots(tmp_path / "MuPoTS-3D")
        records = list(mupots.read_sequences(tmp_path, ["TS1"]))
        assert len(records) == 3
        camera = records[0].camera
        assert np.allclose(camera.K, [[800, 0, 320], [0, 820, 250], [0, 0, 1]])
        for i, record in enumerate(records):
            for k, person in enumerate(record.people):
                assert np.allclose(person.points2d["mpi17"][:, :2], pixels[i, k])
                assert np.allclose(person.points3d["mpi17"][:, :3], joints[i, k] / 1000)
                assert np.allclose(person.points3d["mpi17_univ"][:, :3], 0.9 * joints[i, k] / 1000)
        assert [p.valid for p in records[0].people] == [True, False]
        assert person.points2d["mpi17"][5, 2] < person.points2d["mpi17"][4, 2]

    def test_who_is_not_valid_may_have_no_labels(self, tmp_path: Path) -> None:
        write_mupots(tmp_path / "MuPoTS-3D", empty=True)
        lost = next(mupots.read_sequences(tmp_path, ["TS1"])).people[1]
        assert not lost.valid and not lost.points2d and np.isnan(lost.box).all()

    def write_predictions(self, folder: Path, frames: dict[int, tuple]) -> Path:
        names = {f"TS1_img_{number:06d}": people for number, people in frames.items()}
        savemat(folder / "preds_2d_kpt_mupots.mat", {n: p for n, (p, _) in names.items()})
        savemat(folder / "preds_3d_kpt_mupots.mat", {n: j for n, (_, j) in names.items()})
        return folder / "preds_3d_kpt_mupots.mat"

    def test_official_files(self, tmp_path: Path) -> None:
        pixels, joints = write_mupots(tmp_path / "MuPoTS-3D")
        frames = {0: (pixels[0], joints[0]), 2: (pixels[2, ::-1], joints[2, ::-1] + 500)}
        find = open_predictions(self.write_predictions(tmp_path, frames), "mupots")
        assert find.frames == {"TS1/0", "TS1/2"}
        report = score_mupots(mupots.read_sequences(tmp_path, ["TS1"]), find, "mine")
        assert report.figures["3DPCK, matched [%]"] == 100
        assert np.isclose(report.figures["3DPCK, all [%]"], 100 * 3 / 5)
        assert report.figures["people"] == 5 and report.figures["matched"] == 3
        assert "Only 1 of the 20" in report.notes[0]

    def test_metrabs_npz(self, tmp_path: Path) -> None:
        _, joints = write_mupots(tmp_path / "MuPoTS-3D")
        names = [f"mupots/TS1/img_{i:06d}.jpg" for i in range(3) for _ in range(2)]
        flat = joints.reshape(-1, 17, 3)
        np.savez(tmp_path / "p.npz", image_path=np.array(names, "S"), coords3d_pred_world=flat)
        find = open_predictions(tmp_path / "p.npz", "mupots")
        report = score_mupots(mupots.read_sequences(tmp_path, ["TS1"]), find, "mine")
        assert report.figures["3DPCK, all [%]"] == 100

    def test_files_that_do_not_belong_together(self, tmp_path: Path) -> None:
        pixels, joints = write_mupots(tmp_path / "MuPoTS-3D")
        file = self.write_predictions(tmp_path, {0: (pixels[0, :1], joints[0])})
        with pytest.raises(InputError, match="not as many people"):
            open_predictions(file, "mupots")
        (tmp_path / "preds_2d_kpt_mupots.mat").unlink()
        with pytest.raises(MissingFileError, match="two files"):
            open_predictions(file, "mupots")

    def test_all_twenty_are_needed(self, tmp_path: Path) -> None:
        write_mupots(tmp_path / "MuPoTS-3D")
        with pytest.raises(MissingFileError, match=r"TS2/annot\.mat is missing.*https://"):
            list(read_dataset("mupots", tmp_path))


class TestAgora:
    @pytest.fixture(autouse=True)
    def _pandas(self) -> None:
        pytest.importorskip("pandas", reason="AGORA's data frames need pandas")

    def write_zip(self, path: Path, people: dict[str, dict]) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in people.items():
                archive.writestr(f"predictions/{name}.pkl", pickle.dumps(content))
        return path

    def score(self, root: Path, file: Path, body: object = None) -> ProtocolReport:
        find = open_predictions(file, "agora", body)
        return score_agora(agora(root), find, agora_body_vertices(root), "mine")

    def test_truth_itself_with_a_miss_and_somebody_too_many(self, tmp_path: Path) -> None:
        pixels, joints, meshes = write_agora(tmp_path / "AGORA")
        people = {
            f"ag_scene_00001_personId_{k}": {
                "joints": pixels[0, k][None],
                "allSmplJoints3d": joints[0, k] + 1.0,
                "verts": meshes[0, k] + 1.0,
            }
            for k in (0, 2)
        }
        people["ag_scene_00002_personId_0"] = people["ag_scene_00001_personId_0"]
        report = self.score(tmp_path, self.write_zip(tmp_path / "p.zip", people))
        assert report.figures["people"] == 3 and report.figures["false positives"] == 1
        assert report.figures["MPJPE [mm]"] < 1e-6 and report.figures["MVE [mm]"] < 1e-6
        assert np.isclose(report.figures["F1"], 2 / 3)
        everybody = report.groups[0].rows
        assert everybody["children"]["recall"] == 1
        rows = {group.title: group.rows for group in report.groups}["Occlusion"]
        assert list(rows) == ["0-10 %"]

    def test_another_mesh_has_no_vertex_error(self, tmp_path: Path) -> None:
        pixels, joints, _ = write_agora(tmp_path / "AGORA")
        content = {
            "joints": pixels[0, 0],
            "allSmplJoints3d": joints[0, 0],
            "verts": np.ones((99, 3)),
        }
        people = {"ag_scene_00001_personId_0": content}
        report = self.score(tmp_path, self.write_zip(tmp_path / "p.zip", people))
        assert report.figures["MPJPE [mm]"] < 1e-6 and np.isnan(report.figures["MVE [mm]"])
        assert "SMPL's mesh" in report.notes[0]

    def test_small_pictures_have_their_own_pixels(self, tmp_path: Path) -> None:
        import cv2

        pixels, _, _ = write_agora(tmp_path / "AGORA")
        cv2.imwrite(
            str(tmp_path / "AGORA/ag_scene_00001_1280x720.png"), np.zeros((720, 1280), np.uint8)
        )
        record = next(agora(tmp_path))
        assert (record.width, record.height) == (1280, 720)
        assert np.allclose(record.people[1].points2d["smpl24"][:, :2], pixels[0, 1, :24] / 3)
        joints = record.people[1].points3d["smpl24"][:, :3]
        assert np.allclose(record.camera.project(joints) * 3, pixels[0, 1, :24], atol=2)

    def test_parameters_are_posed(self, tmp_path: Path, smpl: Path) -> None:
        pixels, _, _ = write_agora(tmp_path / "AGORA")
        parameters = {
            "transl": np.zeros((1, 3)), "betas": np.zeros((1, 10)),
            "global_orient": np.eye(3)[None, None], "body_pose": np.tile(np.eye(3), (1, 23, 1, 1)),
        }  # fmt: skip
        content = {"params": parameters, "pose2rot": False, "joints": pixels[0, 0]}
        file = self.write_zip(tmp_path / "p.zip", {"ag_scene_00001_personId_0": content})
        body = load_body("smpl")
        found = open_predictions(file, "agora", body)(next(agora(tmp_path)))
        rest = body.rest_joints(body.v_template.new_zeros(10)).numpy()
        assert np.abs(found.need_joints("smpl24")[0] - rest).max() < 1e-5
        vector = {**parameters, "global_orient": np.zeros((1, 1, 3)),
                  "body_pose": np.zeros((1, 23, 3))}  # fmt: skip
        turned = {**content, "params": vector, "pose2rot": True}
        other = self.write_zip(tmp_path / "q.zip", {"ag_scene_00001_personId_0": turned})
        same = open_predictions(other, "agora", body)(next(agora(tmp_path)))
        assert np.allclose(found.need_vertices(), same.need_vertices(), atol=1e-6)
        with pytest.raises(UsageError, match="--body smpl"):
            open_predictions(file, "agora", None)(next(agora(tmp_path)))
        kid = self.write_zip(tmp_path / "k.zip", {"a_personId_0": {**content, "kid_flag": True}})
        with pytest.raises(InputError, match="a child"):
            open_predictions(kid, "agora", body)._person("predictions/a_personId_0.pkl")

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("smpl_verts", None),
            ("smpl_param_rm", "--body smpl"),
            ("smplx_verts", "SMPL-X"),
            ("smplx_param_rm", "SMPL-X"),
        ],
    )
    def test_official_samples(self, name: str, what: str | None) -> None:
        folder = needs_samples("gt3d/agora/sample_pred_format")
        files = open_predictions(folder, "agora")
        assert len(files.frames) == 4
        if what is None:
            points, joints, vertices = files._person(f"{name}_personId_0.pkl")
            assert points.shape == (45, 2)
            assert joints.shape == (24, 3) and vertices.shape == (6890, 3)
            return
        with pytest.raises(MPMeshError, match=what):
            files._person(f"{name}_personId_0.pkl")


class TestRealFiles:
    def test_regressor_and_body_vertices(self) -> None:
        folder = needs_samples("gt3d")
        chosen = next((folder / "agora").rglob("body_verts_smpl.npy"))
        assert h36m_regressor(folder / "regressors/J_regressor_h36m.npy").shape == (17, 6890)
        assert len(agora_body_vertices(folder, chosen)) == 4010


class TestNames:
    @pytest.mark.parametrize(
        ("dataset", "path", "name"),
        [
            ("3dpw", "imageFiles/downtown_00/image_00007.jpg", "downtown_00/7"),
            ("mupots", "/data/TS12/img_000000.jpg", "TS12/0"),
            ("agora", "ag_trainset_renderpeople_bfh_archviz_5_10_cam02_00001.png",
             "ag_trainset_renderpeople_bfh_archviz_5_10_cam02_00001"),
        ],
    )  # fmt: skip
    def test_frame_names(self, dataset: str, path: str, name: str) -> None:
        assert frame_name(dataset, path) == name


class TestConventions:
    def test_mupots_joints_of_our_body(self) -> None:
        names = [H36M_JOINTS[joint] for joint in MPI17_OF_H36M]
        arms = [f"{side}_{n}" for side in ("right", "left") for n in ("shoulder", "elbow", "wrist")]
        legs = [f"{side}_{n}" for side in ("right", "left") for n in ("hip", "knee", "ankle")]
        trunk = ["pelvis", "spine", "nose"]  # nose and thorax: nearest to head and neck
        assert names == ["head_top", "thorax", *arms, *legs, *trunk]

    def test_legs_swapped_twice_are_as_before(self) -> None:
        order = list(H36M_FILE)
        assert [order[i] for i in order] == list(range(17))


class TestReports:
    def report(self, tmp_path: Path) -> ProtocolReport:
        pixels, joints = write_mupots(tmp_path / "MuPoTS-3D")
        frames = {0: (pixels[0], joints[0]), 1: (pixels[1] + 10, joints[1] + 90)}
        predictions = TestMupots().write_predictions(tmp_path, frames)
        find = open_predictions(predictions, "mupots")
        return score_mupots(mupots.read_sequences(tmp_path, ["TS1"]), find, "<mine>")

    def test_the_page_needs_nothing_else(self, tmp_path: Path) -> None:
        page = protocol_page(self.report(tmp_path))
        assert "&lt;mine&gt;" in page and "<mine>" not in page
        assert page.count("data:image/jpeg;base64,") == 3
        assert "<svg" in page and "TS1" in page and "within 40 px" in page
        assert not re.search(r"(src|href)=\"(?!data:|#)", page)

    def test_without_pictures(self, tmp_path: Path) -> None:
        report = self.report(tmp_path)
        for path in (tmp_path / "MuPoTS-3D/TS1").glob("*.jpg"):
            path.unlink()
        assert protocol_page(report).count("data:image/jpeg;base64,") == 3

    def test_json_has_no_numbers_that_are_none(self, tmp_path: Path) -> None:
        text = json.dumps(self.report(tmp_path).to_json(), allow_nan=False)
        content = json.loads(text)
        assert set(content["protocol"]) >= {
            "joints", "regressor", "alignment", "boxes", "gender", "matching",
        }  # fmt: skip
        assert [len(case) for case in content["worst"]] == [2, 2, 2]


class TestCommand:
    def call(self, monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
        monkeypatch.setattr("sys.argv", ["mpmesh", "evaluate", *map(str, words)])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    def test_scores_predictions(self, tmp_path: Path, monkeypatch, capfd) -> None:
        pixels, joints = write_mupots(tmp_path / "MuPoTS-3D")
        file = TestMupots().write_predictions(tmp_path, {0: (pixels[0], joints[0])})
        output = tmp_path / "out/mupots.json"
        words = "--predictions", file, "--sequence", "TS1", "--output", output
        assert self.call(monkeypatch, "mupots", "--root", tmp_path, *words) == 0
        printed = capfd.readouterr().out
        assert "MuPoTS-3D" in printed and "matching: in the order of the truths" in printed
        assert json.loads(output.read_text())["figures"]["3DPCK, matched [%]"] == 100
        assert "<svg" in output.with_suffix(".html").read_text()

    def test_the_root_may_be_the_set_itself(self, tmp_path: Path, monkeypatch, capfd) -> None:
        pixels, joints = write_mupots(tmp_path / "MuPoTS-3D")
        file = TestMupots().write_predictions(tmp_path, {0: (pixels[0], joints[0])})
        words = "--predictions", file, "--sequence", "TS1"
        for root in (tmp_path, tmp_path / "MuPoTS-3D"):
            assert self.call(monkeypatch, "mupots", "--root", root, *words) == 0
        monkeypatch.chdir(tmp_path / "MuPoTS-3D")
        assert self.call(monkeypatch, "mupots", "--root", ".", *words) == 0
        monkeypatch.setenv("MPMESH_DATASETS", str(tmp_path))
        assert self.call(monkeypatch, "mupots", *words) == 0
        assert "mpmesh: " not in capfd.readouterr().err

    def test_wrong_usage(self, tmp_path: Path, monkeypatch, capfd) -> None:
        write_mupots(tmp_path / "MuPoTS-3D")
        words = "--root", tmp_path, "--predictions", "none.npz"
        assert self.call(monkeypatch, "mupots", *words, "-o", tmp_path / "a.html") == 2
        assert "beside it" in capfd.readouterr().err
        vertices = tmp_path / "AGORA" / "body_verts_smpl.npy"
        vertices.parent.mkdir()
        np.save(vertices, np.arange(9))
        rows = tmp_path / "rows.npz"
        np.savez(rows, image=["a.png"])
        words = "--root", tmp_path, "--predictions", rows, "--split", "test"
        assert self.call(monkeypatch, "agora", *words) == 2
        assert "only train, validation" in capfd.readouterr().err

    def test_what_is_missing_is_one_line(self, tmp_path: Path, monkeypatch, capfd) -> None:
        monkeypatch.setenv("MPMESH_SMPL_DIR", str(tmp_path / "smpl"))
        assert self.call(monkeypatch, "3dpw", "--root", tmp_path) == 1
        assert self.call(monkeypatch, "agora", "--root", tmp_path) == 1
        assert self.call(monkeypatch, "mupots", "--root", tmp_path, "--sequence", "TS21") == 2
        assert self.call(monkeypatch, "synthetic", tmp_path) == 1
        assert self.call(monkeypatch, "bag", tmp_path / "no.mcap", "--truth", "/t", "-o", "x.mcap")
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 5 and all(line.startswith("mpmesh: ") for line in lines)


class TestPipelineAsMethod:
    """A pipeline that returns somebody for each box it is given, in reverse and one short."""

    class Pipeline:
        def __init__(self, body) -> None:
            self.body, self.detector = body, None

        def __call__(self, image: np.ndarray, camera, source: str) -> FrameResult:
            boxes = self.detector.detect(image).boxes
            rng = np.random.default_rng(0)
            people = []
            for box in boxes[:0:-1]:
                person = random_person(rng)
                people.append(type(person)(**(vars(person) | {"bbox": box})))
            return FrameResult(0, 0.0, source, 640, 480, camera.K, np.zeros(0), people)

    def test_everybody_knows_whose_box_was_theirs(self, tmp_path: Path, smpl: Path) -> None:
        write_threedpw(tmp_path / "3DPW", smpl, people=3)
        pipeline = self.Pipeline(None)
        find = PipelinePeople(pipeline, lambda p: points_box(p.points2d["openpose18"]), False)
        records = list(threedpw(tmp_path))
        assert find(records[0]).identity.tolist() == [2, 1]
        assert find(records[-1]).identity.tolist() == [2]  # person 0 is not valid there
        nobody = dataclasses.replace(records[0], people=())
        assert find(nobody).count == 0
