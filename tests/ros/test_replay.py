"""mpmesh replay: bags of all kinds in, bags that ROS 2 plays out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_samples import BagMaker, camera_info

from mpmesh_core.errors import InputError, UsageError
from mpmesh_core.evaluation.replayed import evaluate_replay, read_truths
from mpmesh_core.messages import OUTPUTS
from mpmesh_core.messages.rosbags_types import RosbagsTypes
from mpmesh_core.outputs import ResultsWriter
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.replay import ReplayConfig, ReplayJob, fingerprint, replay_bag, replay_or_report
from mpmesh_core.replay_fleet import plan_jobs, replay_jobs, replay_on_ray
from mpmesh_core.sources.bags import Bag
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_core.weights import ASSETS

IMAGES, INFO = "/camera/image_raw", "/camera/camera_info"
PEOPLE = ReplayConfig(outputs=("people",))


@pytest.fixture(scope="session")
def clip():
    """Four frames of moving people with their camera."""
    return list(demo_clip(frames=4, size=(320, 240)))


def info_of(camera: Any, **changes: Any) -> Any:
    fields = {"k": camera.K.reshape(-1), "d": np.zeros(5), "p": np.zeros(12)}
    return camera_info(width=camera.width, height=camera.height, **{**fields, **changes})


@pytest.fixture
def make_bag(tmp_path, clip):
    """Writes the clip as a bag; returns its path."""

    def make(
        kind: str = "mcap",
        name: str = "drive",
        compressed: bool = False,
        info: Any = "right",
        info_at: float = 9.0,
        compression: str = "",
    ) -> Path:
        with BagMaker(tmp_path, kind, name, compression) as bag:
            info = info_of(clip[0].camera) if info == "right" else info
            if info is not None and info_at < 10:
                bag.camera_info(INFO, info, info_at)
            for index, scene in enumerate(clip):
                recorded = 10.0 + index / 15
                write = bag.compressed if compressed else bag.image
                topic = f"{IMAGES}/compressed" if compressed else IMAGES
                write(topic, 100.25 + index / 15, scene.image, recorded)
                text = f"note {index}"
                bag.write("/notes", "std_msgs/msg/String", recorded + 0.01, data=text)
            if info is not None and info_at >= 10:
                bag.camera_info(INFO, info, info_at)
        return bag.path

    return make


def read(path: Path) -> list[tuple[str, str, int, Any]]:
    """Topic, type, time [ns] and message of everything in a file, by its own definitions."""
    from rosbags.highlevel import AnyReader

    with AnyReader([path]) as reader:
        return [
            (c.topic, c.msgtype, t, reader.deserialize(raw, c.msgtype))
            for c, t, raw in reader.messages()
        ]


def replayed(bag: Path, output: Path, config: ReplayConfig = PEOPLE) -> list[Any]:
    """The people messages of a replay."""
    replay_bag(ReplayJob(bag, output), config)
    return [m for topic, _, _, m in read(output) if topic == "/mpmesh/people"]


class TestReplay:
    @pytest.mark.parametrize("kind", ["ros1", "mcap", "sqlite3"])
    def test_every_kind_of_bag_gives_what_the_line_gives(self, make_bag, tmp_path, clip, kind):
        messages = replayed(make_bag(kind), tmp_path / "out.mcap")
        pipeline = Pipeline(PipelineConfig())
        assert len(messages) == len(clip)
        for index, (message, scene) in enumerate(zip(messages, clip)):
            stamp = message.header.stamp
            assert stamp.sec + 1e-9 * stamp.nanosec == pytest.approx(100.25 + index / 15)
            assert message.header.frame_id == "camera"
            result = pipeline(scene.image, scene.camera, stamp=100.25 + index / 15)
            assert [p.track_id for p in message.people] == [p.track_id for p in result.people]
            for got, person in zip(message.people, result.people):
                np.testing.assert_allclose(
                    got.joints.reshape(-1, 3), person.joints, atol=1e-4, rtol=0
                )
                assert got.fit_residual == pytest.approx(person.fit_residual, rel=1e-4)
                assert 0 < got.fit_residual < 50

    def test_all_outputs_with_definitions_in_bag_order(self, make_bag, tmp_path, clip):
        bag, output = make_bag(), tmp_path / "out.mcap"
        config = ReplayConfig(keep=("/notes", INFO), vertices=True, joint_frames=True)
        report = replay_bag(ReplayJob(bag, output), config)
        assert (report.summary.frames, report.summary.bad) == (len(clip), [])
        messages = read(output)
        wanted = {(o.topic.replace("~", "/mpmesh"), o.type) for o in OUTPUTS}
        wanted |= {("/notes", "std_msgs/msg/String"), (INFO, "sensor_msgs/msg/CameraInfo")}
        others = {(topic, kind) for topic, kind, _, _ in messages} - wanted
        assert all(topic.startswith("/humans/bodies/") for topic, _ in others)
        tracked = [m for topic, _, _, m in messages if topic == "/humans/bodies/tracked"]
        assert len(tracked) == len(clip)
        assert ("/humans/bodies/p1/skeleton2d", "hri_msgs/msg/Skeleton2D") in others
        counts = {t: sum(m[0] == t for m in messages) for t, _ in wanted}
        assert counts["/mpmesh/topology"] == counts[INFO] == 1
        assert counts["/tf"] == 2 * len(clip)  # those of REP 155 too
        for name in counts.keys() - {"/mpmesh/topology", INFO, "/mpmesh/target_pose", "/tf"}:
            assert counts[name] == len(clip), name
        assert [m[3].data for m in messages if m[0] == "/notes"] == [
            f"note {i}" for i in range(len(clip))
        ]
        times = [t for _, _, t, _ in messages]
        assert times == sorted(times)
        people = [t for topic, _, t, _ in messages if topic == "/mpmesh/people"]
        assert people == [round((10 + i / 15) * 1e9) for i in range(len(clip))]

    @pytest.mark.parametrize("kind", ["ros1", "sqlite3"])
    def test_everything_kept(self, make_bag, tmp_path, clip, kind):
        config = ReplayConfig(outputs=("people",), keep=("all",))
        replay_bag(ReplayJob(make_bag(kind), tmp_path / "out.mcap"), config)
        images = [m for topic, _, _, m in read(tmp_path / "out.mcap") if topic == IMAGES]
        for image, scene in zip(images, clip, strict=True):
            np.testing.assert_array_equal(image.data, scene.image.reshape(-1))
        (info,) = [m for topic, _, _, m in read(tmp_path / "out.mcap") if topic == INFO]
        np.testing.assert_allclose(info.k, clip[0].camera.K.reshape(-1))

    def test_own_topics_of_an_earlier_replay_are_not_kept(self, make_bag, tmp_path, monkeypatch):
        """Old and new messages meet on no topic but /tf."""
        said = []  # under ROS's launch plugin, caplog hears nothing
        told = "mpmesh_core.replay.logger.warning"
        monkeypatch.setattr(told, lambda text, *values: said.append(text % values))
        first, second, third = (tmp_path / f"{name}.mcap" for name in ("first", "second", "third"))
        chosen = ("people", "navigation_people", "humans", "tf")
        replay_bag(
            ReplayJob(make_bag(), first),
            ReplayConfig(outputs=chosen, keep=(IMAGES, INFO, "/notes")),
        )
        replay_bag(ReplayJob(first, second), ReplayConfig(outputs=chosen, keep=("all",)))
        counts = [Counter(topic for topic, _, _, _ in read(output)) for output in (first, second)]
        tf = [count.pop("/tf") for count in counts]
        assert counts[0] == counts[1] and tf[1] == 2 * tf[0]
        assert len(said) == 1
        assert "/humans/bodies/tracked, /mpmesh/people, /people left out" in said[0]
        config = ReplayConfig(outputs=("people",), keep=("all",), node="other")
        replay_bag(ReplayJob(first, third), config)
        assert len(said) == 1
        assert {"/mpmesh/people", "/people", "/other/people"} <= {m[0] for m in read(third)}

    @pytest.mark.parametrize("compression", ["file", "message", "storage"])
    def test_zstd(self, make_bag, tmp_path, clip, compression):
        bag = make_bag(compression=compression)
        assert len(replayed(bag, tmp_path / "out.mcap")) == len(clip)

    def test_node_with_a_namespace(self, make_bag, tmp_path, clip):
        config = ReplayConfig(outputs=("people",), node="/robot_1/eyes")
        replay_bag(ReplayJob(make_bag(), tmp_path / "out.mcap"), config)
        assert {m[0] for m in read(tmp_path / "out.mcap")} == {"/robot_1/eyes/people"}

    def test_same_bytes_again(self, make_bag, tmp_path):
        bag = make_bag(compressed=True)
        digests = set()
        for name in ("a", "b"):
            replay_bag(ReplayJob(bag, tmp_path / f"{name}.mcap"), ReplayConfig())
            digests.add(hashlib.sha256((tmp_path / f"{name}.mcap").read_bytes()).hexdigest())
        assert len(digests) == 1

    def test_finished_is_kept_until_something_changes(self, make_bag, tmp_path):
        job = ReplayJob(make_bag(), tmp_path / "out.mcap")
        assert not replay_bag(job, PEOPLE).skipped
        before = job.output.stat().st_mtime_ns
        assert replay_bag(job, PEOPLE).skipped
        assert job.output.stat().st_mtime_ns == before
        changed = ReplayConfig(outputs=("people", "tf"))
        assert not replay_bag(job, changed).skipped
        job.output.write_bytes(job.output.read_bytes()[:-20])
        assert not replay_bag(job, changed).skipped

    @pytest.mark.parametrize("named", [True, False])
    def test_another_body_is_noticed(self, make_bag, tmp_path, monkeypatch, named):
        """Whether it is the file of --body, or the one that `smpl` finds."""
        file = tmp_path / "SMPL_NEUTRAL.npz"
        monkeypatch.setenv("MPMESH_SMPL_DIR", str(tmp_path))
        config = ReplayConfig(pipeline=PipelineConfig(body=str(file) if named else "smpl"))
        bag = make_bag()
        file.write_bytes(b"a body")
        before = fingerprint(bag, config)
        assert fingerprint(bag, config) == before
        file.write_bytes(b"another body")
        assert fingerprint(bag, config) != before


class TestCamera:
    def test_images_before_the_first_camera_info_have_it_too(self, make_bag, tmp_path):
        early = replayed(make_bag(name="early"), tmp_path / "early.mcap")
        late = replayed(make_bag(name="late", info_at=20.0), tmp_path / "late.mcap")
        for a, b in zip(early, late, strict=True):
            np.testing.assert_array_equal(
                [p.joints for p in a.people], [p.joints for p in b.people]
            )

    def test_without_camera_info_the_field_of_view_is_assumed(self, make_bag, tmp_path):
        job = ReplayJob(make_bag(info=None), tmp_path / "out.mcap")
        assert replay_bag(job, PEOPLE).summary.assumed_camera
        told = ReplayConfig(outputs=("people",), fov_degrees=60.0)
        other = ReplayJob(job.bag, tmp_path / "told.mcap")
        assert replay_bag(other, told).summary.assumed_camera
        assumed, same = (
            np.concatenate([p.joints for m in replayed(job.bag, path, config) for p in m.people])
            for path, config in ((job.output, PEOPLE), (other.output, told))
        )
        np.testing.assert_array_equal(assumed, same)

    def test_uncalibrated_camera_is_one_line(self, make_bag, tmp_path, clip):
        bag = make_bag(info=info_of(clip[0].camera, k=np.zeros(9)))
        with pytest.raises(InputError, match=r"/camera/camera_info.*not calibrated.*--camera"):
            replay_bag(ReplayJob(bag, tmp_path / "out.mcap"), PEOPLE)
        assert not list(tmp_path.glob("*out.mcap*"))
        told = ReplayConfig(outputs=("people",), fov_degrees=65.0)
        assert len(replayed(bag, tmp_path / "out.mcap", told)) == len(clip)

    def test_uncalibrated_at_first(self, tmp_path, clip):
        with BagMaker(tmp_path, "mcap") as bag:
            bag.camera_info(INFO, info_of(clip[0].camera, k=np.zeros(9)), 9.0)
            bag.image(IMAGES, 1.0, clip[0].image, 10.0)
            bag.camera_info(INFO, info_of(clip[0].camera), 11.0)
            bag.image(IMAGES, 2.0, clip[1].image, 12.0)
        assert len(replayed(bag.path, tmp_path / "out.mcap")) == 2

    def test_own_overlay_is_no_camera(self, make_bag, tmp_path, clip):
        bag, outputs = make_bag(), ("people", "overlay")
        with_pictures, without = tmp_path / "with.mcap", tmp_path / "without.mcap"
        replay_bag(ReplayJob(bag, without), ReplayConfig(outputs=outputs))
        replay_bag(ReplayJob(bag, with_pictures), ReplayConfig(outputs=outputs, keep=("all",)))
        again = replayed(with_pictures, tmp_path / "again.mcap")
        assert len(again) == len(clip)
        with pytest.raises(InputError, match="only pictures that MPMesh drew"):
            replay_bag(ReplayJob(without, tmp_path / "none.mcap"), PEOPLE)

    def test_two_cameras_have_each_their_own(self, tmp_path, clip):
        camera = clip[0].camera
        with BagMaker(tmp_path, "mcap") as bag:
            for side, focal in (("left", 1.0), ("right", 2.0)):
                K = camera.K * np.array([[focal], [focal], [1.0]])
                K[:2, 2] = camera.K[:2, 2]
                info = info_of(camera, k=K.reshape(-1))
                bag.camera_info(f"/{side}/camera_info", info, 9.0)
                bag.image(f"/{side}/image_raw", 1.0, clip[0].image, 10.0)
        with pytest.raises(UsageError, match="/left/image_raw, /right/image_raw"):
            replay_bag(ReplayJob(bag.path, tmp_path / "out.mcap"), PEOPLE)
        depth = {}
        for side in ("left", "right"):
            config = ReplayConfig(outputs=("people",), topic=f"/{side}/image_raw")
            (message,) = replayed(bag.path, tmp_path / f"{side}.mcap", config)
            depth[side] = np.mean([p.root.pose.position.z for p in message.people])
        assert depth["right"] > 1.5 * depth["left"]

    def test_pictures_of_another_size_are_bad_frames(self, tmp_path, clip):
        with BagMaker(tmp_path, "mcap") as bag:
            bag.camera_info(INFO, info_of(clip[0].camera), 9.0)
            bag.image(IMAGES, 1.0, clip[0].image, 10.0)
            bag.image(IMAGES, 2.0, clip[0].image[:100], 11.0)
            bag.image(IMAGES, 3.0, clip[1].image, 12.0)
        summary = replay_bag(ReplayJob(bag.path, tmp_path / "out.mcap"), PEOPLE).summary
        assert (summary.frames, len(summary.bad)) == (2, 1)
        assert "320x100" in summary.bad[0].reason


class TestFaults:
    def test_cut_off_and_spoiled_bags_are_one_line_and_leave_nothing(self, make_bag, tmp_path):
        rng = np.random.default_rng(0)
        for kind in ("ros1", "mcap", "sqlite3"):
            bag = make_bag(kind)
            file = bag if bag.is_file() else next(p for p in bag.iterdir() if p.suffix != ".yaml")
            data = file.read_bytes()
            spoiled = bytearray(data)
            for place in rng.integers(100, len(data), 200):
                spoiled[place] ^= 0x5A
            for broken in (b"", data[: len(data) // 2], data[:-30], bytes(spoiled)):
                file.write_bytes(broken)
                report = replay_or_report(ReplayJob(bag, tmp_path / "out.mcap"), PEOPLE)
                if report.error is None:
                    assert report.summary.frames
                    report.job.output.unlink()
                else:
                    assert "\n" not in report.error and len(report.error) > 10
                assert not list(tmp_path.glob("*out.mcap*"))

    @pytest.mark.parametrize(
        "config, message",
        [
            (ReplayConfig(keep=("/nothing",)), "no topic '/nothing'; its topics: /camera"),
            (ReplayConfig(outputs=("boxes",)), "'boxes' is none of topology, people"),
            (ReplayConfig(topic="/notes"), "no image topic '/notes'"),
            (ReplayConfig(node=""), "node '' is no ROS name"),
            (ReplayConfig(node="a b/c"), "node 'a b/c' is no ROS name"),
            (ReplayConfig(node="robot//1"), "node 'robot//1' is no ROS name"),
            (ReplayConfig(node="häuser"), "node 'häuser' is no ROS name"),
        ],
    )
    def test_wrong_usage(self, make_bag, tmp_path, config, message):
        with pytest.raises(UsageError, match=message):
            replay_bag(ReplayJob(make_bag(), tmp_path / "out.mcap"), config)
        assert not (tmp_path / "out.mcap").exists()

    def test_type_that_nobody_defines(self, make_bag, tmp_path):
        """A db3 of old has no definitions."""
        import sqlite3

        bag = make_bag("sqlite3")
        with sqlite3.connect(next(bag.glob("*.db3"))) as base:
            base.execute("update topics set type = 'odd_msgs/msg/Odd' where name = '/notes'")
            base.execute("delete from message_definitions")
        metadata = bag / "metadata.yaml"
        metadata.write_text(metadata.read_text().replace("std_msgs/msg/String", "odd_msgs/msg/Odd"))
        config = ReplayConfig(outputs=("people",), keep=("/notes",))
        with pytest.raises(InputError, match="odd_msgs/msg/Odd, which neither"):
            replay_bag(ReplayJob(bag, tmp_path / "out.mcap"), config)


class TestFleet:
    def test_plan(self, tmp_path):
        a, b = tmp_path / "a" / "x.bag", tmp_path / "b" / "y.mcap"
        jobs = plan_jobs([a, b], tmp_path / "out")
        assert [job.output.name for job in jobs] == ["x.mcap", "y.mcap"]
        with pytest.raises(UsageError, match="give a folder"):
            plan_jobs([a, b], tmp_path / "out.mcap")
        with pytest.raises(UsageError, match="both become"):
            plan_jobs([a, b.with_name("x.mcap")], tmp_path / "out")
        with pytest.raises(UsageError, match="written over"):
            plan_jobs([b], b)

    def test_folders_keep_their_whole_name(self, tmp_path):
        folders = [tmp_path / name for name in ("v1.0", "v1.1")]
        for folder in folders:
            folder.mkdir()
        jobs = plan_jobs(folders, tmp_path / "out")
        assert [job.output.name for job in jobs] == ["v1.0.mcap", "v1.1.mcap"]

    def test_processes_give_the_same_bytes_and_one_failure_stops_nobody(self, make_bag, tmp_path):
        bags = [make_bag(name="one"), tmp_path / "nowhere.mcap", make_bag(name="two")]
        jobs = plan_jobs(bags, tmp_path / "out")
        reports = {r.job.bag: r for r in replay_jobs(jobs, PEOPLE, processes=2)}
        assert "does not exist" in str(reports[bags[1]].error)
        for bag in (bags[0], bags[2]):
            assert reports[bag].error is None and reports[bag].summary.frames == 4
            alone = tmp_path / f"alone_{bag.name}.mcap"
            replay_bag(ReplayJob(bag, alone), PEOPLE)
            assert alone.read_bytes() == reports[bag].job.output.read_bytes()

    def test_ray(self, make_bag, tmp_path, monkeypatch):
        """With relative paths, which the processes read from the same folder."""
        pytest.importorskip("ray", reason="the optional package ray isn't installed")
        bag = make_bag()
        shutil.copytree(ASSETS, tmp_path / "weights")
        monkeypatch.chdir(tmp_path)
        settings = PEOPLE.pipeline.model_copy(update={"weights": Path("weights")})
        jobs = plan_jobs([Path(bag.name)], Path("out"))
        (report,) = replay_on_ray(jobs, PEOPLE.model_copy(update={"pipeline": settings}), "local")
        assert report.error is None and report.job == jobs[0]
        assert jobs[0].output.is_file()

    @pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
    def test_stopped_while_processes_start(self, make_bag, tmp_path):
        """They end without a word; what is said comes from the command alone."""
        bags = [make_bag(name=name) for name in ("one", "two")]
        command = [sys.executable, "-c", "from mpmesh_core.cli import main; main()", "replay"]
        command += [*map(str, bags), "--output", str(tmp_path / "out"), "--jobs", "2"]
        # A shell has it ignored in what it runs in the background, maybe these tests.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            command, start_new_session=True, stderr=subprocess.PIPE, text=True
        )
        signal.signal(signal.SIGINT, before)
        deadline = time.monotonic() + 120
        while not _starts_processes(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert (process.returncode, said.splitlines()) == (
            130,
            [
                "mpmesh: stopped by SIGINT",
                "stopped; bags that are finished are kept, the same call goes on",
            ],
        )

    def test_killed_replay_never_looks_finished(self, make_bag, tmp_path):
        done, killed = make_bag(name="done"), make_bag(name="killed")
        jobs = plan_jobs([done, killed], tmp_path / "out")
        replay_bag(jobs[0], ReplayConfig())
        before = jobs[0].output.stat().st_mtime_ns
        command = [sys.executable, "-c", "from mpmesh_core.cli import main; main()", "replay"]
        command += [str(done), str(killed), "--output", str(tmp_path / "out")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        partial = tmp_path / "out" / ".killed_mcap.mcap.part"
        deadline = time.monotonic() + 120
        while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if jobs[1].output.exists():
            pytest.skip("the replay was done before it could be killed")
        assert partial.exists()
        reports = [replay_bag(job, ReplayConfig()) for job in jobs]
        assert [report.skipped for report in reports] == [True, False]
        assert jobs[0].output.stat().st_mtime_ns == before
        assert jobs[1].output.is_file() and not partial.exists()


class TestTypes:
    def test_output_reads_with_the_types_of_either_distribution(self, make_bag, tmp_path):
        output = tmp_path / "out.mcap"
        replay_bag(ReplayJob(make_bag(), output), ReplayConfig())
        from rosbags.rosbag2 import Reader

        for distribution in ("humble", "jazzy"):
            types = RosbagsTypes(distribution)
            with Reader(output) as reader:
                for connection, _, raw in reader.messages():
                    message = types.store.deserialize_cdr(raw, connection.msgtype)
                    assert types.serialize(message) == raw


class TestEvaluation:
    def test_against_a_topic_and_a_results_file(self, make_bag, tmp_path):
        for package in ("trackeval", "matplotlib"):
            pytest.importorskip(package, reason=f"the optional package {package} isn't installed")
        first = ReplayConfig(outputs=("people",), keep=(IMAGES, INFO))
        recorded = tmp_path / "recorded.mcap"
        replay_bag(ReplayJob(make_bag(), recorded), first)
        with ResultsWriter(tmp_path / "run") as writer:
            pipeline = Pipeline(PipelineConfig())
            for frame in Bag(recorded):
                writer.write(pipeline(frame.image, frame.camera, frame.stamp, frame.index))
        for truth in ("/mpmesh/people", str(tmp_path / "run" / "results.jsonl")):
            job = ReplayJob(recorded, tmp_path / "again.mcap")
            truths = read_truths([job], PEOPLE, truth)
            evaluation = evaluate_replay(replay_bag(job, PEOPLE), PEOPLE, truths[job.bag])
            assert evaluation.report.f1 == evaluation.report.identities.hota == 1
            assert evaluation.report.mpjpe_mm < 0.01 and evaluation.report.position_mm < 0.1
            figures = json.loads((tmp_path / "again.json").read_text())
            assert figures["frames"] == len(figures["per_frame"]) == 4
            assert "<svg" in (tmp_path / "again.html").read_text()
        assert evaluation.latency_ms == []  # the replay was finished before
        with pytest.raises(UsageError, match="no topic '/nothing'"):
            read_truths([job], PEOPLE, "/nothing")
        with pytest.raises(UsageError, match="write it too: --only people"):
            read_truths([job], ReplayConfig(outputs=("tf",)), "/mpmesh/people")
        with pytest.raises(UsageError, match=r"CameraInfo; truth is one of"):
            read_truths([job], PEOPLE, INFO)
        (tmp_path / "new.html").mkdir()
        with pytest.raises(InputError, match=r"new\.html cannot be written: it is a folder"):
            read_truths([ReplayJob(recorded, tmp_path / "new.mcap")], PEOPLE, "/mpmesh/people")
        with pytest.raises(UsageError, match="is of one bag"):
            read_truths([job, job], PEOPLE, str(tmp_path / "run"))


def _starts_processes(parent: int) -> bool:
    """Whether a process has one of multiprocessing's below it, which may not have begun yet."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            below = int(stat.read_text().rpartition(")")[2].split()[1]) == parent
            if below and b"spawn_main" in stat.with_name("cmdline").read_bytes():
                return True
    return False


def test_command_line(make_bag, tmp_path):
    """Errors are one line; the code says whether anything failed."""

    def run(*words: str) -> subprocess.CompletedProcess:
        code = "from mpmesh_core.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, "replay", *words], capture_output=True, text=True
        )

    missing = run(str(tmp_path / "no.bag"), "-o", str(tmp_path / "out.mcap"))
    assert missing.returncode == 1 and "no.bag does not exist" in missing.stderr
    wrong = run(str(make_bag()), "-o", str(tmp_path / "out.mcap"), "--only", "boxes")
    assert wrong.returncode == 2 and "'boxes' is none of" in wrong.stderr
    assert "Traceback" not in wrong.stderr + missing.stderr


@pytest.mark.parametrize("words", [("--topic", "/no"), ("--keep", "/no"), ("--node", "a b")])
def test_wrong_option_of_a_single_bag(make_bag, tmp_path, monkeypatch, capsys, words):
    from mpmesh_core.cli import main

    command = ["mpmesh", "replay", str(make_bag()), "-o", str(tmp_path / "out.mcap"), *words]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests keep their own handlers
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and words[1] in capsys.readouterr().err


def test_several_bags_name_what_is_wrong(tmp_path, clip, monkeypatch, capsys):
    """Each error its bag, each bad picture its reason, and at the end who failed."""
    from mpmesh_core.cli import main

    for name, heights in (("good", (240, 100)), ("empty", (100,))):
        with BagMaker(tmp_path, "mcap", name) as bag:
            bag.camera_info(INFO, info_of(clip[0].camera), 9.0)
            for index, height in enumerate(heights):
                bag.image(IMAGES, 1.0 + index, clip[index].image[:height], 10.0 + index)
    good, empty = tmp_path / "good_mcap", tmp_path / "empty_mcap"
    words = [str(good), str(empty), "-o", str(tmp_path / "out"), "--only", "people"]
    monkeypatch.setattr("sys.argv", ["mpmesh", "replay", *words])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests keep their own handlers
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 1 and f"1 of 2 bags failed: {empty}" in said
    assert f"mpmesh: {empty}: no frame could be used: " in said
    assert "bad frame: the camera is calibrated for 320x240, the picture is 320x100" in said
