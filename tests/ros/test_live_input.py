"""camera_input and parameters: what comes into the node; in this process."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 isn't sourced")
pytest.importorskip("mpmesh_ros.msg", reason="mpmesh_ros isn't built; source its workspace")

import rclpy
from live import RESULT_S, Observer
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mpmesh_core.camera import Camera
from mpmesh_core.errors import UsageError
from mpmesh_ros.camera_cache import CameraCache
from mpmesh_ros.camera_input import CameraInput, camera_info_topic, picture_topic
from mpmesh_ros.parameters import Parameters, unknown
from mpmesh_ros.picture_source import camera_info_message, image_message
from mpmesh_ros.problems import Problems
from mpmesh_ros.publishers import PublisherEventCallbacks
from mpmesh_ros.qos import LATCHED
from mpmesh_ros.settings import NodeSettings

SMALL = np.zeros((48, 64, 3), np.uint8)
ARGUMENTS = ["--ros-args", "-r", "image:=/camera/image_raw"]


def camera(focal):
    K = np.array([[focal, 0, 32], [0, focal, 24], [0, 0, 1]])
    return Camera(K, np.zeros(5), "plumb_bob", 64, 48)


class Ear:
    """A node with a CameraInput, spun when asked."""

    def __init__(self, see, *arguments):
        context = see.node.context
        self.said, self.focals = [], []
        self.node = rclpy.create_node("ear", context=context, cli_args=[*ARGUMENTS, *arguments])
        self.problems = Problems(self.said.append, self.said.append)
        self.cameras = CameraCache("/camera/camera_info")
        self.input = CameraInput(
            self.node, NodeSettings(), self.cameras, self.problems, self._receive
        )
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.input.open()

    def _receive(self, picture):
        try:
            self.focals.append(self.cameras.camera(64, 48).K[0, 0])
        except Exception as error:
            self.focals.append(str(error))

    def spin(self, seconds=0.3):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def until(self, condition):
        end = time.monotonic() + RESULT_S
        while not condition():
            assert time.monotonic() < end, "it didn't happen in time"
            self.spin(0.05)

    def close(self):
        self.input.close()
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def world():
    see = Observer()
    made = SimpleNamespace(see=see, ears=[])

    def ear(*arguments):
        made.ears.append(Ear(see, *arguments))
        return made.ears[-1]

    made.ear = ear
    yield made
    for one in made.ears:
        one.close()
    see.close()


class TestOrder:
    def test_a_picture_goes_with_the_camera_info_of_its_time(self, world):
        ear = world.ear("-p", "qos_overrides./camera/image_raw.subscription.reliability:=reliable")
        world.see.ready()
        expected = [50.0 + 10 * i for i in range(10)]
        for focal in expected:  # both have arrived when the node gets to look
            header = world.see.header()
            world.see.infos.publish(camera_info_message(header, camera(focal)))
            world.see.images.publish(image_message(header, SMALL))
            time.sleep(0.1)
            ear.spin()
        assert ear.focals == expected


class TestLatched:
    def test_camera_info_of_before_the_node_began(self, world):
        """A driver that says it once, transient local."""
        see = world.see
        see.node.destroy_publisher(see.infos)
        infos = see.node.create_publisher(CameraInfo, "/camera/camera_info", LATCHED)
        infos.publish(camera_info_message(see.header(), camera(50.0)))
        ear = world.ear()
        see.until(lambda: see.images.get_subscription_count())
        for _ in range(10):
            see.images.publish(image_message(see.header(), SMALL))
            ear.spin()
        assert ear.focals[-1] == 50.0
        assert ear.cameras.changes == 0
        ear.input.close()
        infos.publish(camera_info_message(see.header(), camera(70.0)))  # while the node rests
        ear.input.open()
        see.until(lambda: see.images.get_subscription_count())
        for _ in range(10):
            see.images.publish(image_message(see.header(), SMALL))
            ear.spin()
        assert ear.focals[-1] == 70.0
        assert not any("QoS" in line for line in ear.said)

    def test_nobody_is_asked_for_what_is_not_kept(self, world):
        misfits = []
        events = PublisherEventCallbacks(incompatible_qos=misfits.append)
        see = world.see
        see.node.create_publisher(CameraInfo, "/camera/camera_info", 1, event_callbacks=events)
        ear = world.ear()
        see.until(lambda: see.images.get_subscription_count())
        for _ in range(5):
            see.images.publish(image_message(see.header(), SMALL))
            ear.spin()
            see.rest(0.1)
        assert ear.focals and not misfits
        assert not any("QoS" in line for line in ear.said)


class TestProblems:
    def test_a_mismatch_ends_with_the_camera_that_has_it(self, world):
        sensor = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        ear = world.ear("-p", "qos_overrides./camera/image_raw.subscription.reliability:=reliable")
        rival = world.see.node.create_publisher(Image, "/camera/image_raw", sensor)
        ear.until(lambda: ear.problems.current)
        assert "reliability doesn't fit" in ear.said[0]
        assert ear.problems.current
        world.see.node.destroy_publisher(rival)
        ear.until(lambda: not ear.problems.current)
        assert ear.said[-1] == "qos of /camera/image_raw: well again"

    def test_the_advice_of_a_mismatch_can_be_followed(self, world):
        """Whatever policy it is about: the parameter that it names is there."""
        latched = "qos_overrides./camera/camera_info.subscription.durability"
        ear = world.ear("-p", f"{latched}:=transient_local")
        ear.until(lambda: ear.said)
        assert latched in ear.said[0] and "durability doesn't fit" in ear.said[0]
        assert ear.node.get_parameter(latched).value == "transient_local"

    def test_a_message_that_failed_is_forgiven_with_the_next(self, world):
        ear = world.ear()
        world.see.ready()
        ear.node.get_clock, clock = None, ear.node.get_clock
        world.see.images.publish(image_message(world.see.header(), SMALL))
        ear.until(lambda: ear.problems.current)
        assert "left out" in ear.said[0]
        ear.node.get_clock = clock
        world.see.images.publish(image_message(world.see.header(), SMALL))
        ear.until(lambda: "messages on /camera/image_raw" not in ear.problems.current)


class TestTopics:
    @pytest.mark.parametrize(
        ("compressed", "rules", "pictures", "infos"),
        [
            (False, ["image:=/cam/image_rect"], "/cam/image_rect", "/cam/camera_info"),
            (True, ["image:=/cam/image_raw"], "/cam/image_raw/compressed", "/cam/camera_info"),
            (True, ["image/compressed:=/a/b/compressed"], "/a/b/compressed", "/a/camera_info"),
            (True, ["image/compressed:=/cam/jpeg", "camera_info:=/info"], "/cam/jpeg", "/info"),
        ],
    )
    def test_follow_what_is_remapped(self, world, compressed, rules, pictures, infos):
        arguments = [part for rule in rules for part in ("-r", rule)]
        context = world.see.node.context
        node = rclpy.create_node("ear", context=context, cli_args=["--ros-args", *arguments])
        assert picture_topic(node, compressed) == pictures
        assert camera_info_topic(node, compressed) == infos
        node.destroy_node()


class TestSilence:
    def test_says_why(self, world):
        see = world.see
        see.node.destroy_publisher(see.images)
        ear = world.ear()
        ear.until(lambda: ear.input.silence() == "nobody publishes them")
        other = see.node.create_publisher(CompressedImage, "/camera/image_raw", 1)
        ear.until(lambda: "CompressedImage, not sensor_msgs/msg/Image" in ear.input.silence())
        see.node.destroy_publisher(other)
        see.node.create_publisher(Image, "/camera/image_raw", 1)
        ear.until(lambda: ear.input.silence() == "1 there, but nothing comes")


class TestUnknownParameters:
    def test_are_said_with_what_may_be_meant(self, world):
        given = ["max_peple:=3", "xyz:=1", "qos_overrides./a.b:=x"]
        arguments = [part for value in given for part in ("-p", value)]
        context = world.see.node.context
        node = rclpy.create_node("ear", context=context, cli_args=["--ros-args", *arguments])
        known = list(NodeSettings.model_fields)
        assert sorted(unknown(node, known)) == ["max_peple (is max_people meant?)", "xyz"]
        node.destroy_node()


class TestSwitches:
    def settings(self, world, *values):
        arguments = [part for value in values for part in ("-p", value)]
        context = world.see.node.context
        node = rclpy.create_node("ear", context=context, cli_args=["--ros-args", *arguments])
        try:
            return Parameters(node).settings
        finally:
            node.destroy_node()

    def test_on_and_off_as_yaml_has_them(self, world):
        settings = self.settings(world, "second_look:=off", "fuse:=on")
        assert (settings.second_look, settings.fuse) == ("off", "on")
        assert self.settings(world, "second_look:=thorough").second_look == "thorough"

    def test_other_types_are_refused_with_a_line(self, world):
        with pytest.raises(UsageError, match=r"^second_look 3: .*'off'$"):
            self.settings(world, "second_look:=3")
