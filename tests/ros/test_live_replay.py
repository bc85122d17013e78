"""The live node and `mpmesh replay` find the same people in the same bag."""

import shutil
import signal
import subprocess

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 isn't sourced")
pytest.importorskip("mpmesh_ros.msg", reason="mpmesh_ros isn't built; source its workspace")

from bag_samples import BagMaker
from live import NodeProcess, Observer
from mpmesh_ros.msg import SmplPersonArray
from test_replay import IMAGES, INFO, info_of, replayed

from mpmesh_core.training.synthetic.demo_clip import demo_clip

FRAMES = 8
FIELDS = ("joints", "transl", "betas", "body_pose", "joints_2d", "joint_confidence")


@pytest.mark.skipif(shutil.which("ros2") is None, reason="the ros2 command isn't there")
def test_same_people(tmp_path):
    scenes = list(demo_clip(frames=FRAMES))
    with BagMaker(tmp_path, "mcap", "drive", "") as bag:
        bag.camera_info(INFO, info_of(scenes[0].camera), 9.0)
        for index, scene in enumerate(scenes):
            bag.image(IMAGES, 100.25 + index / 15, scene.image, 10.0 + index / 15)
    expected = replayed(bag.path, tmp_path / "people.mcap")
    heard = played(bag.path, tmp_path)
    assert [stamp_of(m) for m in heard] == [stamp_of(m) for m in expected]
    for mine, theirs in zip(heard, expected):
        assert [p.track_id for p in mine.people] == [p.track_id for p in theirs.people]
        for a, b in zip(mine.people, theirs.people):
            position = [getattr(a.root.pose.position, axis) for axis in "xyz"]
            other = [getattr(b.root.pose.position, axis) for axis in "xyz"]
            np.testing.assert_allclose(position, other, atol=1e-4)
            for name in FIELDS:
                np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-4)


def played(path, folder):
    """What the live node says while ROS plays a bag, slowly enough for every picture."""
    see = Observer()
    people = see.listen(SmplPersonArray, "/mpmesh/people")
    node = NodeProcess(folder / "node.log", see.domain)
    see.ready()
    see.rest(1.0)
    command = ["ros2", "bag", "play", str(path), "--rate", "0.1", "--disable-keyboard-controls"]
    command += ["--delay", "3"]
    player = subprocess.Popen(command, env=node.environment, start_new_session=True)
    try:
        see.until(lambda: len(of_pictures(people)) == FRAMES, 60.0)
    finally:
        player.send_signal(signal.SIGINT)
        player.wait(20)
        node.stop()
        see.close()
    return of_pictures(people)


def of_pictures(messages):
    """Without those of nobody, which follow where a busy machine is silent for a while."""
    return list({stamp_of(m): m for m in reversed(messages)}.values())[::-1]


def stamp_of(message):
    return message.header.stamp.sec, message.header.stamp.nanosec
