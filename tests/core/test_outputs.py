"""Outputs: the line of results.jsonl, its way back, meshes, pictures, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people_samples import random_person, random_result

from mpmesh_core.errors import InputError, MissingFileError, NumericalError
from mpmesh_core.outputs import (
    ResultsWriter,
    prepare_folder,
    read_results,
    result_to_json,
    write_file,
)
from mpmesh_core.overlay_output import OverlayImages, OverlayVideo, OverlayWriter
from mpmesh_core.sources import Frame, open_source

FRAME_KEYS = ["frame", "stamp", "source", "width", "height", "K", "D", "people"]
PERSON_KEYS = [
    "track_id", "state", "score", "bbox", "global_orient", "body_pose", "betas", "transl",
    "joints", "joints_2d", "joint_confidence", "coco_2d", "h36m", "position",
    "position_covariance", "velocity",
]  # fmt: skip
SHAPES = {
    "bbox": (4,), "global_orient": (3,), "body_pose": (69,), "betas": (10,), "transl": (3,),
    "joints": (24, 3), "joints_2d": (24, 2), "joint_confidence": (24,), "coco_2d": (17, 2),
    "h36m": (17, 3), "position": (3,), "position_covariance": (9,), "velocity": (3,),
}  # fmt: skip


def run_script(code: str, *args: str) -> subprocess.Popen[str]:
    """A Python of its own, to be killed."""
    return subprocess.Popen(
        [sys.executable, "-uc", code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


class TestLine:
    def test_keys_and_shapes_are_the_contract(self) -> None:
        line = json.loads(result_to_json(random_result(np.random.default_rng(0))))
        assert list(line) == FRAME_KEYS
        assert len(line["K"]) == 9
        for person in line["people"]:
            assert list(person) == PERSON_KEYS
            assert {name: np.shape(person[name]) for name in SHAPES} == SHAPES

    def test_unknown_velocity_is_null(self) -> None:
        result = random_result(np.random.default_rng(0))
        result = replace(result, people=[random_person(np.random.default_rng(1))])
        assert json.loads(result_to_json(result))["people"][0]["velocity"] is None

    def test_nobody(self) -> None:
        nobody = random_result(np.random.default_rng(0), people=0)
        assert json.loads(result_to_json(nobody))["people"] == []

    def test_intrinsics_are_row_major(self) -> None:
        result = replace(random_result(np.random.default_rng(0)), K=np.arange(9.0).reshape(3, 3))
        assert json.loads(result_to_json(result))["K"] == list(range(9))

    @given(st.floats(-1e6, 1e6, allow_nan=False))
    @settings(max_examples=50, deadline=None)
    def test_rounding(self, value: float) -> None:
        person = replace(random_person(np.random.default_rng(0)), transl=np.full(3, value))
        result = replace(random_result(np.random.default_rng(0)), people=[person])
        written = json.loads(result_to_json(result))["people"][0]["transl"][0]
        assert written == pytest.approx(value, rel=5.1e-6, abs=1e-300)
        assert "-0.0," not in result_to_json(result)

    def test_stamp_since_1970_keeps_microseconds(self) -> None:
        result = replace(random_result(np.random.default_rng(0)), stamp=1718000000.123456)
        assert json.loads(result_to_json(result))["stamp"] == 1718000000.123456

    def test_float32_and_float64_give_the_same_bytes(self) -> None:
        result = random_result(np.random.default_rng(0), people=1)
        short = np.round(result.people[0].joints, 3)
        pair = [
            replace(result, people=[replace(result.people[0], joints=short.astype(kind))])
            for kind in (np.float32, np.float64)
        ]
        assert result_to_json(pair[0]) == result_to_json(pair[1])

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("name", ["betas", "joints", "velocity"])
    def test_not_finite_is_named(self, name: str, bad: float) -> None:
        result = random_result(np.random.default_rng(0), frame=7)
        value = np.array(getattr(result.people[1], name))
        value.flat[1] = bad
        people = [result.people[0], replace(result.people[1], **{name: value})]
        with pytest.raises(NumericalError, match=f"frame 7 .* {name} of person 1"):
            result_to_json(replace(result, people=people))


class TestRoundTrip:
    @pytest.mark.parametrize("people", [0, 1, 3])
    def test_written_is_read(self, tmp_path: Path, people: int) -> None:
        rng = np.random.default_rng(0)
        results = [random_result(rng, frame, people) for frame in range(3)]
        with ResultsWriter(tmp_path / "new" / "folder") as writer:
            for result in results:
                writer.write(result)
        for result, back in zip(results, read_results(tmp_path / "new" / "folder"), strict=True):
            assert (back.frame, back.source, back.width) == (result.frame, result.source, 640)
            assert back.stamp == pytest.approx(result.stamp, abs=1e-6)
            np.testing.assert_allclose(back.K, result.K, rtol=1e-8)
            np.testing.assert_allclose(back.D, result.D, rtol=1e-8)
            for person, other in zip(result.people, back.people, strict=True):
                assert (other.track_id, other.state) == (person.track_id, person.state)
                for name in SHAPES:
                    a, b = getattr(other, name), getattr(person, name)
                    assert np.shape(a) == np.shape(b)
                    np.testing.assert_allclose(a, b, rtol=5.1e-6)

    def test_reading_and_writing_again_gives_the_same_bytes(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        with ResultsWriter(tmp_path / "a") as first, ResultsWriter(tmp_path / "b") as second:
            first.write(random_result(rng, 0))
            second.write(read_results(tmp_path / "a")[0])
        paths = [tmp_path / name / "results.jsonl" for name in "ab"]
        assert paths[0].read_bytes() == paths[1].read_bytes()

    def test_a_run_that_fails_before_its_first_frame_loses_nothing(self, tmp_path: Path) -> None:
        with ResultsWriter(tmp_path) as writer:
            writer.write(random_result(np.random.default_rng(1)))
        before = (tmp_path / "results.jsonl").read_bytes()
        with pytest.raises(RuntimeError), ResultsWriter(tmp_path):
            raise RuntimeError
        assert (tmp_path / "results.jsonl").read_bytes() == before

    def test_meshes_of_an_earlier_run_go(self, tmp_path: Path) -> None:
        (tmp_path / "meshes").mkdir()
        for name in ("000007.npz", "mine.npz"):
            (tmp_path / "meshes" / name).write_bytes(b"old")
        with ResultsWriter(tmp_path) as writer:
            writer.write(random_result(np.random.default_rng(0)))
        assert [path.name for path in (tmp_path / "meshes").iterdir()] == ["mine.npz"]

    def test_old_results_are_replaced(self, tmp_path: Path) -> None:
        for frames in (3, 1):
            with ResultsWriter(tmp_path) as writer:
                for frame in range(frames):
                    writer.write(random_result(np.random.default_rng(0), frame))
        assert len(read_results(tmp_path)) == 1


class TestReadResults:
    def test_cut_last_line_is_left_out_and_said(
        self, tmp_path: Path, listen: Callable[[str], list[str]]
    ) -> None:
        lines = [result_to_json(random_result(np.random.default_rng(0), i)) for i in range(3)]
        path = tmp_path / "results.jsonl"
        path.write_text("\n".join(lines)[:-100])
        said = listen("mpmesh_core.outputs")
        assert [result.frame for result in read_results(path)] == [0, 1]
        assert len(said) == 1 and "line 3" in said[0]

    def test_whole_last_line_without_a_line_feed_counts(
        self, tmp_path: Path, listen: Callable[[str], list[str]]
    ) -> None:
        lines = [result_to_json(random_result(np.random.default_rng(0), i)) for i in range(3)]
        (tmp_path / "results.jsonl").write_text("\n".join(lines))
        said = listen("mpmesh_core.outputs")
        assert [result.frame for result in read_results(tmp_path)] == [0, 1, 2]
        assert not said

    @pytest.mark.parametrize(
        "line, reason",
        [
            ("{not json}", "line 2"),
            ("[]", "line 2"),
            ('{"frame": 0}', "no 'stamp'"),
        ],
    )
    def test_faulty_line(self, tmp_path: Path, line: str, reason: str) -> None:
        good = result_to_json(random_result(np.random.default_rng(0)))
        (tmp_path / "results.jsonl").write_text(f"{good}\n{line}\n{good}\n")
        with pytest.raises(InputError, match=reason) as caught:
            read_results(tmp_path)
        assert "\n" not in str(caught.value)

    def test_wrong_number_of_joints(self, tmp_path: Path) -> None:
        line = json.loads(result_to_json(random_result(np.random.default_rng(0))))
        line["people"][0]["joints"].pop()
        (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
        with pytest.raises(InputError, match="joints must have shape"):
            read_results(tmp_path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="mpmesh run"):
            read_results(tmp_path)

    @given(st.binary(max_size=200))
    @settings(max_examples=60, deadline=None)
    def test_random_bytes(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        path = tmp_path_factory.mktemp("results") / "results.jsonl"
        path.write_bytes(data)
        try:
            read_results(path)
        except InputError as error:
            assert "\n" not in str(error)


class TestMeshes:
    def test_vertices_and_faces(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        vertices, faces = rng.normal(size=(7, 3)), rng.integers(0, 7, (5, 3))
        people = [random_person(rng), random_person(rng, 4, vertices)]
        with ResultsWriter(tmp_path, faces) as writer:
            writer.write(replace(random_result(rng, 12), people=people))
            writer.write(random_result(rng, 13))
        assert sorted(os.listdir(tmp_path / "meshes")) == ["000012.npz", "faces.npy"]
        mesh = np.load(tmp_path / "meshes" / "000012.npz")
        np.testing.assert_array_equal(mesh["vertices"], vertices[None].astype(np.float32))
        assert (mesh["person"].tolist(), mesh["track_id"].tolist()) == ([1], [4])
        np.testing.assert_array_equal(np.load(tmp_path / "meshes" / "faces.npy"), faces)


class TestFolder:
    def test_shared_by_many_at_once(self, tmp_path: Path) -> None:
        """Replays in several processes, and robots on one disk, write side by side."""
        with ThreadPoolExecutor(8) as pool:
            folders = list(pool.map(prepare_folder, [tmp_path / "out"] * 2000))
        assert set(folders) == {tmp_path / "out"} and not list(folders[0].iterdir())

    def test_a_file_where_the_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("")
        with pytest.raises(InputError, match=r"out cannot be written.*--output") as caught:
            ResultsWriter(tmp_path / "out")
        assert "\n" not in str(caught.value)

    def test_not_allowed(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        try:
            if os.access(tmp_path, os.W_OK):
                pytest.skip("this user may write everywhere")
            with pytest.raises(InputError, match="cannot be written"):
                ResultsWriter(tmp_path)
        finally:
            tmp_path.chmod(0o700)

    def test_a_file_that_fails_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "figures.json").mkdir()
        with pytest.raises(InputError, match=r"figures\.json cannot be written"):
            write_file(tmp_path / "figures.json", b"{}")
        assert os.listdir(tmp_path) == ["figures.json"]

    def test_full_disk(self, tmp_path: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        (tmp_path / "results.jsonl").symlink_to("/dev/full")
        with ResultsWriter(tmp_path) as writer, pytest.raises(InputError, match="No space left"):
            writer.write(random_result(np.random.default_rng(0)))


WRITE_FRAMES = """
import signal
import sys
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit it ignored
sys.path.insert(0, sys.argv[2])
from people_samples import random_result
from mpmesh_core.outputs import ResultsWriter
from mpmesh_core.overlay_output import OverlayVideo
rng = np.random.default_rng(0)
video = OverlayVideo(sys.argv[1] + "/overlay.mp4", 1)
try:
    with ResultsWriter(sys.argv[1]) as writer:
        for frame in range(10**4):
            writer.write(random_result(rng, frame))
            video.write(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8), "x")
            print(frame)
finally:
    video.close()
"""


class TestKill:
    def test_what_is_left(self, tmp_path: Path) -> None:
        """Results keep every finished frame. Ctrl-C finishes the video; a kill costs its end."""
        here = str(Path(__file__).parent)
        lost = {signal.SIGINT: 1, signal.SIGKILL: 50}  # frames of the video at most
        for kind in lost:
            (tmp_path / kind.name).mkdir()
        runs = {kind: run_script(WRITE_FRAMES, str(tmp_path / kind.name), here) for kind in lost}
        for kind, process in runs.items():
            assert process.stdout is not None
            for _ in range(60):
                process.stdout.readline()
            process.send_signal(kind)
            finished = 60 + len(process.stdout.read().split())
            process.wait()
            results = read_results(tmp_path / kind.name)
            assert [result.frame for result in results] == list(range(len(results)))
            assert len(results) >= finished - 1  # the last word may itself be cut
            video = open_source(str(tmp_path / kind.name / "overlay.mp4"))
            pictures = [frame for frame in video if isinstance(frame, Frame)]
            assert len(pictures) >= finished - lost[kind]


def flat(value: int, width: int = 64, height: int = 48) -> Any:
    return np.full((height, width, 3), (value, 30, 200), np.uint8)


class TestOverlayImages:
    def test_names_follow_the_sources(self, tmp_path: Path) -> None:
        overlays = OverlayImages(tmp_path)
        written = [overlays.write(flat(50), source) for source in ("a/x.png", "b/x.png", "y.jpeg")]
        assert [path.name for path in written] == ["x.jpg", "x_2.jpg", "y.jpg"]
        assert sorted(os.listdir(tmp_path / "overlay")) == ["x.jpg", "x_2.jpg", "y.jpg"]

    def test_a_dot_in_a_name_is_no_suffix(self, tmp_path: Path) -> None:
        overlays = OverlayImages(tmp_path)
        written = [overlays.write(flat(50), "a/my.clip.mp4", index) for index in (0, 1)]
        assert [path.name for path in written] == ["my.clip_000000.jpg", "my.clip_000001.jpg"]

    @pytest.mark.parametrize("letter", ["b", "é", "日"])
    def test_the_longest_names_that_files_can_have(self, tmp_path: Path, letter: str) -> None:
        source = letter * (251 // len(letter.encode())) + ".png"
        overlays = OverlayImages(tmp_path)
        written = [overlays.write(flat(50), source, index) for index in (None, None, 7)]
        assert all(path.is_file() and path.name.startswith(letter) for path in written)
        assert len(set(written)) == 3 and written[2].stem.endswith("_000007")

    def test_colours(self, tmp_path: Path) -> None:
        path = OverlayImages(tmp_path).write(flat(90), "x.png")
        image = cv2.imread(str(path))[..., ::-1]
        np.testing.assert_allclose(image.reshape(-1, 3).mean(axis=0), (90, 30, 200), atol=3)


class TestOverlayVideo:
    def test_written_is_read(self, tmp_path: Path) -> None:
        video = OverlayVideo(tmp_path / "overlay.mp4", 12.5)
        for value in range(20, 220, 10):
            video.write(flat(value), "clip.mp4")
        video.close()
        source = open_source(str(tmp_path / "overlay.mp4"))
        frames = list(source)
        assert source.fps == pytest.approx(12.5, rel=1e-3) and len(frames) == 20
        reds = [frame.image[..., 0].mean() for frame in frames]
        np.testing.assert_allclose(reds, range(20, 220, 10), atol=8)
        assert os.listdir(tmp_path) == ["overlay.mp4"]

    def test_odd_and_changing_sizes(self, tmp_path: Path) -> None:
        video = OverlayVideo(tmp_path / "overlay.mp4", 1)
        for width, height in ((63, 47), (63, 47), (200, 20), (20, 200), (1, 1)):
            video.write(flat(120, width, height), "clip.mp4")
        video.close()
        assert [frame.image.shape for frame in open_source(str(video.path))] == [(48, 64, 3)] * 5

    def test_longer_than_the_codec_can(self, tmp_path: Path) -> None:
        """An 8K picture beside its top view is made smaller, its shape kept."""
        video = OverlayVideo(tmp_path / "overlay.mp4", 1)
        video.write(flat(120, 10800, 432), "clip.mp4")
        video.close()
        assert [frame.image.shape for frame in open_source(str(video.path))] == [(328, 8190, 3)]

    def test_too_few_pixels_a_second(self, tmp_path: Path) -> None:
        """The encoder would end the process."""
        video = OverlayVideo(tmp_path / "overlay.mp4", 0.1)
        with pytest.raises(InputError, match=r"2x2 pixels at 0\.1 FPS are too few.*--no-overlay"):
            video.write(flat(120, 2, 2), "clip.mp4")
        video.close()
        assert os.listdir(tmp_path) == []

    def test_a_full_disk_is_told(self, tmp_path: Path) -> None:
        """OpenCV says nothing, so the file is cut behind its back."""
        video = OverlayVideo(tmp_path / "overlay.mp4", 10)
        for value in range(20, 220, 5):
            video.write(flat(value), "clip.mp4")
        assert video._writer is not None
        video._writer.release()
        data = video.path.read_bytes()
        video.path.write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match=r"of 40 frames.*--no-overlay"):
            video.close()

    def test_nothing_written(self, tmp_path: Path) -> None:
        OverlayVideo(tmp_path / "overlay.mp4", 10).close()
        assert os.listdir(tmp_path) == []


class TestOverlayWriter:
    def test_each_kind_of_source_where_it_belongs(self, tmp_path: Path) -> None:
        images = SimpleNamespace(kind="images", fps=None)
        video = SimpleNamespace(kind="video", fps=10.0)
        with OverlayWriter(tmp_path) as writer:
            for source in (images, video, images, video):
                writer.start(source)
                writer.write(flat(100), "a/x.png")
            assert writer.last == tmp_path / "overlay_2.mp4"
        names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
        assert names == ["overlay.mp4", "overlay/x.jpg", "overlay/x_2.jpg", "overlay_2.mp4"]


class TestRunOutputs:
    @pytest.mark.parametrize("sequence", [True, False])
    def test_a_photo_is_drawn_without_regard_to_the_one_before(
        self, tmp_path: Path, sequence: bool
    ) -> None:
        from people_samples import result_of, standing_person

        from mpmesh_core.body import load_body
        from mpmesh_core.camera import Camera
        from mpmesh_core.run_outputs import RunConfig, RunOutputs

        camera, body = Camera.from_fov(160, 120), load_body("open")
        near, far = (result_of(camera, [standing_person(body, camera, 0, z)]) for z in (2, 12))
        photos = SimpleNamespace(name="photos", kind="images", fps=None, sequence=sequence)
        with RunOutputs(RunConfig(tmp_path), body) as outputs:
            outputs.start(photos)
            for index, result in enumerate((near, far, near)):
                picture = np.full((120, 160, 3), 80, np.uint8)
                outputs.write(Frame(index, 0.0, f"{index}.png", picture), camera, result)
        first, _, last = (path.read_bytes() for path in sorted(tmp_path.glob("overlay/*.jpg")))
        assert (first == last) == (not sequence)


class TestMcapFile:
    def test_a_full_disk_leaves_what_can_be_recovered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is large and its name is hidden, so the error names it."""
        pytest.importorskip("mcap", reason="the optional package mcap isn't installed")
        from mpmesh_core.mcap_output import McapFile

        def full() -> None:
            raise OSError(28, "No space left on device")

        with (
            pytest.raises(InputError, match=r"No space.*\.a\.mcap\.part, for `mcap recover`"),
            McapFile(tmp_path / "a.mcap", salvage=True) as file,
        ):
            monkeypatch.setattr(file._writer, "finish", full)
            file.write(file.add_topic("/a", "std_msgs/msg/Empty", ""), b"", 0)
        assert os.listdir(tmp_path) == [".a.mcap.part"]


class TestRerunWriter:
    def test_recording_holds_the_story(self, tmp_path: Path) -> None:
        rerun = pytest.importorskip(
            "rerun", reason="the optional package rerun-sdk isn't installed"
        )
        from people_samples import result_of, standing_person

        from mpmesh_core.body import load_body
        from mpmesh_core.camera import Camera
        from mpmesh_core.rerun_output import RerunWriter

        camera, body = Camera.from_fov(64, 48), load_body("open")
        people = [standing_person(body, camera, 0.0, 3.0, track_id=5)]
        with RerunWriter(tmp_path / "new" / "run.rrd", body) as writer:
            for frame in range(3):
                result = replace(result_of(camera, people), frame=frame, stamp=frame / 10)
                writer.write(flat(80), replace(result, timings={"detect": 4.0}), camera)
                people = people if frame == 0 else []
        assert (tmp_path / "new" / "run.rrd").stat().st_size > 10_000
        assert rerun is not None

    def test_each_photo_keeps_its_camera_and_nobody_lost_is_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rerun = pytest.importorskip("rerun", reason="rerun-sdk is not installed")
        from people_samples import result_of, standing_person

        from mpmesh_core.body import load_body
        from mpmesh_core.camera import Camera
        from mpmesh_core.rerun_output import RerunWriter

        logged: list[tuple[str, str, bool]] = []

        def log(stream: Any, entity: str, what: Any, static: bool = False) -> None:
            logged.append((entity, type(what).__name__, static))

        monkeypatch.setattr(rerun.RecordingStream, "log", log)
        body = load_body("open")
        with RerunWriter(tmp_path / "run.rrd", body) as writer:
            for width, state in ((64, "tracked"), (64, "lost"), (128, "coasted")):
                camera = Camera.from_fov(width, 48)
                person = standing_person(body, camera, 0.0, 3.0, state=state)
                writer.write(flat(80, width), result_of(camera, [person]), camera)
        cameras = [static for _, kind, static in logged if kind == "Pinhole"]
        assert cameras == [False, False]  # one for each size, from its own frame on
        assert sum(kind == "Mesh3D" for _, kind, _ in logged) == 2

    def test_a_folder_in_the_way(self, tmp_path: Path) -> None:
        pytest.importorskip("rerun", reason="rerun-sdk is not installed")
        from mpmesh_core.body import load_body
        from mpmesh_core.rerun_output import RerunWriter

        with pytest.raises(InputError, match="it is a folder"):
            RerunWriter(tmp_path, load_body("open"))

    def test_missing_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from mpmesh_core.errors import MissingPackageError
        from mpmesh_core.rerun_output import import_rerun

        monkeypatch.setitem(sys.modules, "rerun", None)
        with pytest.raises(MissingPackageError, match="pip install"):
            import_rerun()


def test_lines_are_fast_enough_for_video() -> None:
    """A line of three people takes about a millisecond, so that writing never limits a run."""
    result = random_result(np.random.default_rng(0), people=3)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        result_to_json(result)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01
