"""The command line: exit codes, one-line errors, and what a run leaves behind."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer
from bag_samples import BagMaker
from typer.testing import CliRunner

from mpmesh_core import cli
from mpmesh_core.errors import NumericalError
from mpmesh_core.outputs import read_results
from mpmesh_core.overlay_output import OverlayVideo

COMMANDS = [
    ["run"],
    ["demo"],
    ["replay"],
    ["bench"],
    ["export"],
    ["ablate"],
    ["body", "build"],
    ["body", "info"],
    ["body", "render"],
    ["data", "list"],
    ["data", "check"],
    ["data", "people"],
    ["data", "scenes"],
    ["engine", "build"],
    ["engine", "info"],
    ["engine", "check"],
    ["evaluate", "3dpw"],
    ["evaluate", "mupots"],
    ["evaluate", "agora"],
    ["evaluate", "synthetic"],
    ["evaluate", "bag"],
    ["evaluate", "photos"],
    ["evaluate", "studio"],
    ["evaluate", "demo"],
    ["train", "labels"],
    ["train", "synthesize"],
    ["train", "start"],
    ["train", "people"],
    ["train", "detector"],
    ["train", "skeleton"],
    ["train", "head"],
    ["train", "refiner"],
    ["weights", "list"],
    ["weights", "info"],
    ["weights", "import"],
]

GROUPS = sorted({words[0] for words in COMMANDS if len(words) > 1})


class Outcome:
    """Exit code and what was printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def mpmesh(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Call the command as a user does."""

    def call(*words: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["mpmesh", *map(str, words)])
        before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)
        printed = capfd.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


def write_picture(path: Path, size: tuple[int, int] = (160, 120), seed: int = 0) -> Path:
    """A picture of nothing: smooth noise without people."""
    coarse = np.random.default_rng(seed).integers(90, 160, (6, 8, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))
    return path


def assert_one_line(text: str, pattern: str) -> None:
    (line,) = text.splitlines()
    assert line.startswith("mpmesh: ")
    assert re.search(pattern, line), line


class TestHelp:
    @pytest.mark.parametrize("words", [*COMMANDS, *([name] for name in GROUPS)], ids=" ".join)
    def test_every_command_shows_an_example(self, words: list[str]) -> None:
        shown = CliRunner().invoke(cli.app, [*words, "--help"])
        assert shown.exit_code == 0
        assert "Example: mpmesh" in shown.output

    def test_every_command_is_tested(self) -> None:
        def names(app: typer.Typer, prefix: tuple[str, ...] = ()) -> list[list[str]]:
            found = []
            for command in app.registered_commands:
                name = command.name or getattr(command.callback, "__name__", "")
                found.append([*prefix, name])
            for group in app.registered_groups:
                assert group.typer_instance is not None
                found += names(group.typer_instance, (*prefix, str(group.name)))
            return found

        assert sorted(names(cli.app)) == sorted(COMMANDS)

    def test_version(self, mpmesh) -> None:
        assert re.fullmatch(r"mpmesh \d+\.\d+\.\d+\n", mpmesh("--version").out)


class TestRun:
    def test_nobody_in_the_picture(self, mpmesh, tmp_path: Path) -> None:
        photo = write_picture(tmp_path / "empty.png")
        outcome = mpmesh("run", photo, "-o", tmp_path / "out", "--device", "cpu")
        assert outcome.code == 0, outcome.err
        line = json.loads((tmp_path / "out/results.jsonl").read_text())
        assert line["people"] == []
        assert (line["width"], line["height"]) == (160, 120)
        assert (tmp_path / "out/overlay/empty.jpg").is_file()
        assert "60 degrees" in outcome.err  # the camera is assumed, and that is said

    def test_a_broken_picture_in_a_folder(self, mpmesh, tmp_path: Path) -> None:
        folder = tmp_path / "photos"
        folder.mkdir()
        write_picture(folder / "a.png")
        (folder / "b.jpg").write_bytes(b"\xff\xd8\xff and then nothing")
        write_picture(folder / "c.png", seed=1)
        outcome = mpmesh("run", folder, "-o", tmp_path / "out", "--no-overlay", "--fov", 70)
        assert outcome.code == 0, outcome.err
        assert "b.jpg" in outcome.err
        sources = [Path(r.source).name for r in read_results(tmp_path / "out")]
        assert sources == ["a.png", "c.png"]

    def test_same_input_same_bytes(self, mpmesh, tmp_path: Path) -> None:
        photo = write_picture(tmp_path / "a.png")
        written = []
        for name in ("one", "two"):
            mpmesh("run", photo, "-o", tmp_path / name, "--no-overlay")
            written.append((tmp_path / name / "results.jsonl").read_bytes())
        assert written[0] == written[1]

    @pytest.mark.parametrize(
        ("words", "code", "pattern"),
        [
            (["nowhere.jpg"], 1, r"nowhere\.jpg does not exist"),
            (["PHOTO", "--backend", "rocm"], 2, r"--backend 'rocm'"),
            (["PHOTO", "--variant", "huge"], 2, r"--variant 'huge'"),
            (["PHOTO", "--variant", "paper"], 1, r"no paper weights"),
            (["PHOTO", "--backend", "tensorrt", "--device", "cpu"], 1, r"tensorrt needs"),
            (["PHOTO", "--camera", "CAMERA", "--fov", "60"], 2, r"--camera and --fov"),
            (["PHOTO", "--camera", "CAMERA"], 1, r"K"),
            (["PHOTO", "--fov", "200"], 2, r"--fov must be 1 to 175"),
            (["PHOTO", "--fov", "nan"], 2, r"--fov must be 1 to 175"),
            (["PHOTO", "--rerun", "EMPTY"], 1, r"it is a folder"),
            (["PHOTO", "--topic", "/image"], 2, r"--topic /image.*no source is a bag"),
            ([""], 2, r"a source has no name"),
            (["PHOTO", "--weights", "EMPTY"], 1, r"holds no"),
            (["PHOTO", "--detector", "PHOTO"], 1, r"not usable"),
            (["PHOTO", "--detector", "EMPTY"], 1, r"is a folder; give an \.onnx file"),
            (["PHOTO", "--attention", "--no-refine"], 2, r"--attention.*--no-refine"),
            (["PHOTO", "--body", "nobody.npz"], 1, r"nobody\.npz"),
        ],
    )
    def test_errors_are_one_line(
        self,
        mpmesh,
        tmp_path: Path,
        words: list[str],
        code: int,
        pattern: str,
    ) -> None:
        photo = write_picture(tmp_path / "photo.png")
        camera = tmp_path / "camera.yaml"
        camera.write_text(
            "image_width: 160\nimage_height: 120\ndistortion_model: plumb_bob\n"
            "camera_matrix: {rows: 3, cols: 3, data: [0, 0, 80, 0, 0, 60, 0, 0, 1]}\n"
            "distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}\n"
        )
        names = {"PHOTO": photo, "CAMERA": camera, "EMPTY": tmp_path}
        given = [names.get(word, word) for word in words]
        outcome = mpmesh("run", *given, "-o", tmp_path / "out")
        assert outcome.code == code, outcome.err
        assert_one_line(outcome.err, pattern)

    def test_a_recording_is_of_one_source(self, mpmesh, tmp_path: Path) -> None:
        """Two videos begin at 0 s each, also where one word names both."""
        for name in ("a.mp4", "b.mp4"):
            video = OverlayVideo(tmp_path / name, 10)
            video.write(np.zeros((48, 64, 3), np.uint8), name)
            video.close()
        words = tmp_path / "*.mp4", "-o", tmp_path / "out", "--mcap", tmp_path / "a.mcap"
        outcome = mpmesh("run", *words)
        assert outcome.code == 2
        assert_one_line(outcome.err, "--mcap records one source")

    def test_wrong_usage(self, mpmesh, tmp_path: Path) -> None:
        for words, pattern in (
            (["run"], "Missing argument"),
            (["run", "a.jpg", "-o", tmp_path, "--max-people", 0], "--max-people"),
            (["run", "a.jpg", "-o", tmp_path, "--max-people", "many"], "--max-people"),
            (["run", "a.jpg", "--nonsense"], "--nonsense"),
            (["walk"], "walk"),
            (["weights", "import", "a.pth", "-o", "b"], "--kind.* hybrik, resnet50"),
        ):
            outcome = mpmesh(*words)
            assert outcome.code == 2
            assert_one_line(outcome.err, pattern)

    @pytest.mark.parametrize(
        "words",
        [
            ["evaluate", "synthetic", "nowhere", "--output"],
            ["evaluate", "photos", "--data", "nowhere", "--output"],
            ["bench", "--output"],
            ["body", "build", "--output"],
            ["body", "render", "--output"],
            ["data", "check", "nothing", "--root", "nowhere", "--output"],
            ["weights", "import", "nowhere.pth", "--kind", "resnet50", "--output"],
        ],
        ids=lambda words: " ".join(words[:2]),
    )
    def test_a_folder_where_a_file_should_be_is_told_before_the_work(
        self, mpmesh, tmp_path: Path, words: list[str]
    ) -> None:
        outcome = mpmesh(*words, tmp_path)
        assert outcome.code == 1
        assert_one_line(outcome.err, f"{tmp_path} cannot be written: it is a folder")

    def test_a_folder_where_the_page_should_be(self, mpmesh, tmp_path: Path) -> None:
        (tmp_path / "figures.html").mkdir()
        outcome = mpmesh("evaluate", "synthetic", "nowhere", "-o", tmp_path / "figures.json")
        assert outcome.code == 1
        assert_one_line(outcome.err, "figures.html cannot be written: it is a folder")

    @pytest.mark.parametrize("name", ["figures.json", "folder"])
    def test_evaluate_bag_takes_the_replayed_file(self, mpmesh, tmp_path: Path, name: str) -> None:
        output = tmp_path / name
        outcome = mpmesh("evaluate", "bag", "nowhere.mcap", "--truth", "/people", "-o", output)
        assert outcome.code == 2
        assert_one_line(outcome.err, rf"{name}: name the replayed file \(\.mcap\)")
        assert not output.exists()

    def test_damaged_weights(self, mpmesh, tmp_path: Path) -> None:
        weights = tmp_path / "weights"
        weights.mkdir()
        (weights / "detector-light.safetensors").write_bytes(b"no tensors here")
        photo = write_picture(tmp_path / "photo.png")
        outcome = mpmesh("run", photo, "-o", tmp_path / "out", "--weights", weights)
        assert outcome.code == 1
        assert_one_line(outcome.err, "detector-light.safetensors")

    def test_deleted_folder(self, mpmesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        outcome = mpmesh("run", "a.jpg", "-o", tmp_path / "out")
        assert outcome.code == 1
        assert_one_line(outcome.err, "the current folder was deleted")

    def test_debug_shows_the_traceback(self, mpmesh, tmp_path: Path) -> None:
        from mpmesh_core.errors import MissingFileError

        with pytest.raises(MissingFileError):
            mpmesh("--debug", "run", "nowhere.jpg", "-o", tmp_path)
        with pytest.raises(MissingFileError):
            mpmesh("run", "nowhere.jpg", "-o", tmp_path, "--debug")

    def test_own_output_is_not_written_over(self, mpmesh, tmp_path: Path) -> None:
        (tmp_path / "overlay").mkdir()
        photo = write_picture(tmp_path / "overlay" / "a.jpg")
        before = photo.read_bytes()
        outcome = mpmesh("run", photo, "-o", tmp_path)
        assert outcome.code == 2
        assert_one_line(outcome.err, "would be written over")
        assert photo.read_bytes() == before

    def test_outputs_are_not_written_over_one_another(self, mpmesh, tmp_path: Path) -> None:
        pytest.importorskip("rerun", reason="the optional package rerun isn't installed")
        photo = write_picture(tmp_path / "photo.png")
        results, both = tmp_path / "out" / "results.jsonl", tmp_path / "both"
        for words in (("--mcap", results), ("--rerun", results), ("--mcap", both, "--rerun", both)):
            outcome = mpmesh("run", photo, "-o", tmp_path / "out", *words)
            assert outcome.code == 2, outcome.err
            assert_one_line(outcome.err, f"give another {words[-2]}")
        assert not (tmp_path / "out").exists() and not both.exists()

    def test_a_recording_is_not_written_over_its_source(self, mpmesh, tmp_path: Path) -> None:
        for package in ("rosbags", "rerun"):
            pytest.importorskip(package, reason=f"the optional package {package} isn't installed")
        with BagMaker(tmp_path, "mcap") as bag:
            bag.image("/image", 1.0, np.zeros((48, 64, 3), np.uint8), 10.0)
        (part,) = bag.path.glob("*.mcap")
        photo, link = write_picture(tmp_path / "photo.png"), tmp_path / "link.mcap"
        link.symlink_to(part)
        for source, option, file in (
            (part, "--mcap", part),
            (part, "--mcap", link),
            (bag.path, "--mcap", part),
            (bag.path, "--mcap", bag.path / "new.mcap"),
            (photo, "--mcap", photo),
            (photo, "--rerun", photo),
        ):
            before = file.read_bytes() if file.exists() else b""
            outcome = mpmesh("run", source, "-o", tmp_path / "out", option, file)
            assert outcome.code == 2, outcome.err
            assert_one_line(outcome.err, f"would be written over; give another {option}")
            assert (file.read_bytes() if file.exists() else b"") == before
        assert link.is_symlink() and not (tmp_path / "out").exists()


class TestEnd:
    @pytest.mark.parametrize("kind, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_what_was_done_is_written(
        self, tmp_path: Path, kind: signal.Signals, code: int
    ) -> None:
        clip = tmp_path / "clip.mp4"
        writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 30, (160, 120))
        for value in range(3000):  # longer than the test
            writer.write(np.full((120, 160, 3), value % 200, np.uint8))
        writer.release()
        script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        script += "from mpmesh_core.cli import main; main()"
        words = ["run", str(clip), "--output", str(tmp_path / "out"), "--overlay"]
        process = subprocess.Popen(
            [sys.executable, "-c", script, *words], stderr=subprocess.PIPE, text=True
        )
        results = tmp_path / "out/results.jsonl"
        while process.poll() is None and (not results.is_file() or results.stat().st_size < 2000):
            time.sleep(0.02)
        process.send_signal(kind)
        error = process.communicate()[1]
        assert process.returncode == code, error
        done = read_results(results)
        assert 1 < len(done) < 3000
        video = cv2.VideoCapture(str(tmp_path / "out/overlay.mp4"))
        assert len(done) - 1 <= video.get(cv2.CAP_PROP_FRAME_COUNT) <= len(done)
        assert "Traceback" not in error and f"stopped by {kind.name}" in error
        assert "what was done until here is written" in error


class TestExport:
    def test_wrong_words_and_folders(self, mpmesh, tmp_path: Path) -> None:
        outcome = mpmesh("export", "all", "--variant", "huge", "-o", tmp_path / "out")
        assert outcome.code == 2
        assert_one_line(outcome.err, "--variant 'huge'")
        assert not (tmp_path / "out").exists()
        file = write_picture(tmp_path / "a.png")
        outcome = mpmesh("export", "skeleton", "-o", file)
        assert outcome.code == 1
        assert_one_line(outcome.err, "cannot be written")
        (tmp_path / "out/refiner-light.onnx").mkdir(parents=True)
        outcome = mpmesh("export", "all", "-o", tmp_path / "out")
        assert outcome.code == 1
        assert_one_line(outcome.err, "refiner-light.onnx cannot be written: it is a folder")
        assert len(list((tmp_path / "out").iterdir())) == 1  # told before the work

    def test_a_file_that_computes_something_else_replaces_none(
        self, mpmesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = tmp_path / "refiner-light.onnx"
        old.write_text("good")

        def differs(*_: object) -> dict[str, float]:
            raise NumericalError("ONNX output pose differs from torch")

        with monkeypatch.context() as patch:
            patch.setattr("mpmesh_core.engines.export.check_parity", differs)
            outcome = mpmesh("export", "refiner", "-o", tmp_path)
        assert outcome.code == 1
        assert_one_line(outcome.err, "differs from torch")
        assert old.read_text() == "good"
        assert list(tmp_path.iterdir()) == [old]
        outcome = mpmesh("export", "refiner", "-o", tmp_path)
        assert outcome.code == 0, outcome.err
        assert old.stat().st_size > 10**5
        assert list(tmp_path.iterdir()) == [old]


class TestTrainSettings:
    def test_unknown_setting(self, mpmesh, tmp_path: Path) -> None:
        outcome = mpmesh("train", "labels", "data=x", f"output={tmp_path}", "colour=blue")
        assert outcome.code == 2
        assert_one_line(outcome.err, "colour")

    def test_broken_value(self, mpmesh) -> None:
        outcome = mpmesh("train", "labels", "data={")
        assert outcome.code == 2
        assert_one_line(outcome.err, "no YAML value")

    def test_missing_configuration(self, mpmesh) -> None:
        outcome = mpmesh("train", "skeleton", "-c", "nowhere.yaml")
        assert outcome.code == 1
        assert_one_line(outcome.err, r"nowhere\.yaml does not exist")


class TestAblate:
    @pytest.mark.parametrize(
        ("words", "pattern"),
        [
            (["output={}"], r"'scenes'"),
            (["output={}", "scenes={{a: 1}}"], r"'validation'"),
            (["output={}", "scenes={{a: 1}}", "validation=[a]", "--row", "n9"], r"'n9'.*n1, n2"),
        ],
    )
    def test_wrong_usage(self, mpmesh, tmp_path: Path, words: list[str], pattern: str) -> None:
        outcome = mpmesh("ablate", *(word.format(tmp_path / "out") for word in words))
        assert outcome.code == 2
        assert_one_line(outcome.err, pattern)


class TestWeights:
    def test_import_of_something_else(self, mpmesh, tmp_path: Path) -> None:
        picture = write_picture(tmp_path / "resnet50.png")
        outcome = mpmesh(
            "weights", "import", picture, "--kind", "resnet50", "-o", tmp_path / "x.safetensors"
        )
        assert outcome.code == 1
        assert_one_line(
            outcome.err, r"resnet50\.png is no readable PyTorch checkpoint \(Unsupported operand"
        )
        assert not (tmp_path / "x.safetensors").exists()

    def test_incomplete_import_is_told_tensor_by_tensor(self, mpmesh, tmp_path: Path) -> None:
        names = ("conv1.weight", "layer1.0.conv3.weight", "fc.weight")
        torch.save({name: torch.zeros(2, 2) for name in names}, tmp_path / "w.pth")
        outcome = mpmesh(
            "weights", "import", tmp_path / "w.pth", "--kind", "resnet50",
            "--output", tmp_path / "x.safetensors",
        )  # fmt: skip
        assert outcome.code == 1
        assert "shape (2, 2)" in outcome.out and "fc" in outcome.out
        assert_one_line(outcome.err, "nothing written")
        assert not (tmp_path / "x.safetensors").exists()

    def test_list(self, mpmesh) -> None:
        outcome = mpmesh("weights", "list")
        assert outcome.code == 0
        for name in ("detector-light", "skeleton-light", "refiner-light"):
            assert name in outcome.out
