"""The node as it runs: what goes in, what comes out, and what it says when something is wrong."""

import signal
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 isn't sourced")
pytest.importorskip("mpmesh_ros.msg", reason="mpmesh_ros isn't built; source its workspace")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from live import RELIABILITY, START_S, NodeProcess, Observer, set_parameter
from mpmesh_ros.msg import MeshTopology, SmplPersonArray
from rcl_interfaces.srv import DescribeParameters
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from mpmesh_core.camera import Camera
from mpmesh_core.training.synthetic.demo_clip import demo_clip

BLACK = np.zeros((480, 640, 3), np.uint8)
UNCALIBRATED_K = [0.0] * 9


@pytest.fixture(scope="module")
def clip():
    return list(demo_clip(frames=4))


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A node that most tests share: each leaves it well."""
    yield from started(tmp_path_factory.mktemp("live"))


def started(folder, reliable=True, **parameters):
    observer = Observer(reliable)
    node = NodeProcess(folder / "node.log", observer.domain, **parameters)
    people = observer.listen(SmplPersonArray, "/mpmesh/people")
    observer.ready()
    yield SimpleNamespace(see=observer, node=node, people=people)
    assert node.alive, node.text
    assert node.stop() == 0, node.text
    observer.close()


def answer(live, header):
    """The people of the picture with this header."""
    live.see.until(lambda: live.people and live.people[-1].header == header)
    return live.people[-1]


class TestPictures:
    def test_late_camera_info(self, live, clip):
        live.see.show(clip[0].image)
        live.see.until(lambda: "no camera_info yet" in live.node.text)
        live.see.show(clip[0].image)
        header = live.see.show(clip[0].image, clip[0].camera)
        assert len(answer(live, header).people) == 3
        live.see.until(lambda: "camera_info: well again" in live.node.text)
        assert live.node.text.count("no camera_info yet") == 1

    def test_people_have_the_header_of_their_picture(self, live, clip):
        for scene in clip:
            message = answer(live, live.see.show(scene.image))
        assert message.header.frame_id == "camera_optical_frame"
        assert message.model_type == "open" and len(message.joint_names) == 24
        person = message.people[0]
        assert len(person.joints) == 72 and len(person.vertices) == 0
        assert person.track_state == person.TRACKED and person.velocity_valid
        assert 1.5 < person.root.pose.position.z < 7.0

    def test_nobody(self, live, clip):
        live.see.call(Trigger, "/mpmesh/reset_tracks", Trigger.Request())
        assert answer(live, live.see.show(BLACK)).people == []

    def test_bad_encoding_is_said_once_and_forgiven(self, live, clip):
        for _ in range(3):
            live.see.show(clip[0].image, encoding="holographic")
            live.see.rest(0.2)
        live.see.until(lambda: "holographic" in live.node.text)
        assert len(answer(live, live.see.show(clip[0].image)).people) == 3
        assert live.node.text.count("holographic") == 1
        assert live.node.text.count("image: well again") == 1

    def test_a_message_shorter_than_it_says(self, live, clip):
        live.see.show(clip[0].image, height=4800)
        live.see.until(lambda: "needs 9216000" in live.node.text)
        assert len(answer(live, live.see.show(clip[0].image)).people) == 3

    def test_k_of_zero(self, live, clip):
        from mpmesh_ros.picture_source import camera_info_message

        bad = camera_info_message(live.see.header(), clip[0].camera)
        bad.k = UNCALIBRATED_K
        for _ in range(3):
            live.see.infos.publish(bad)
            live.see.rest(0.1)
            answer(live, live.see.show(clip[0].image))
        live.see.until(lambda: "not calibrated" in live.node.text)
        answer(live, live.see.show(clip[0].image, clip[0].camera))
        assert live.node.text.count("not calibrated") == 1

    def test_size_change(self, live, clip):
        small, camera = clip[0].image[::2, ::2], clip[0].camera.scaled(320, 240)
        live.see.show(small)
        live.see.until(lambda: "they are 320x240" in live.node.text)
        message = answer(live, live.see.show(small, camera))
        assert message.people
        assert answer(live, live.see.show(clip[0].image, clip[0].camera)).people

    @pytest.mark.parametrize("bad", [False, True])
    def test_nobody_stays_when_the_camera_dies_or_goes_bad(self, live, clip, bad):
        assert answer(live, live.see.show(clip[0].image, clip[0].camera)).people
        for _ in range(12):  # 6 s
            if bad:
                live.see.show(clip[0].image, encoding="holographic")
            live.see.rest(0.5)
        assert live.people[-1].people == []
        after = [message for message in live.people if message.header == live.people[-1].header]
        assert len(after) == 2  # the people, and once that they are gone
        assert answer(live, live.see.show(clip[0].image)).people

    def test_time_going_back(self, live, clip):
        before = answer(live, live.see.show(clip[0].image))
        answer(live, live.see.show(clip[0].image, step_s=-3.0))
        after = answer(live, live.see.show(clip[1].image))
        assert len(after.people) == 3
        old = {person.track_id for person in before.people}
        assert not old & {p.track_id for p in after.people if p.track_state != p.LOST}

    def test_nobody_stays_without_stamps(self, live, clip):
        """A driver that leaves them zero: those who left are given up all the same."""
        live.see.show(clip[0].image, clip[0].camera, stamp=Time())
        live.see.until(
            lambda: (
                live.people
                and live.people[-1].header.stamp.sec == 0
                and bool(live.people[-1].people)
            )
        )
        assert "stamps are 0" in live.node.text
        for _ in range(60):  # without a pause, in which the node would say that nobody is there
            live.see.show(BLACK, stamp=Time())
            live.see.rest(0.3)
            if live.people[-1].people == []:
                return
        pytest.fail("somebody stays")

    @pytest.mark.parametrize("seconds", [1_600_000_000, None])
    def test_nobody_stays_where_stamps_stand_still(self, live, clip, seconds):
        """Of another clock or of this one."""
        still = live.see.node.get_clock().now() if seconds is None else Time(seconds=seconds)
        header = live.see.show(clip[0].image, clip[0].camera, stamp=still)
        assert answer(live, header).people
        for _ in range(20):
            live.see.show(BLACK, stamp=still)
            live.see.rest(0.3)
        assert live.people[-1].people == []
        assert "stamps stand still" in live.node.text
        assert live.people[-1].header == header

    def test_pictures_without_a_frame(self, live, clip):
        frames = live.see.listen(TFMessage, "/tf", 100)
        assert answer(live, live.see.show(clip[0].image, clip[0].camera)).people
        live.see.until(lambda: any(message.transforms for message in frames))
        frames.clear()
        nameless = Header(stamp=live.see.header().stamp)
        live.see.show(clip[0].image, header=nameless)
        assert answer(live, nameless).people
        live.see.rest(0.3)
        assert not any(message.transforms for message in frames)
        assert "name no frame" in live.node.text
        assert answer(live, live.see.show(clip[0].image)).people
        live.see.until(lambda: "frame_id: well again" in live.node.text)

    def test_equidistant_lens(self, live, clip):
        K = clip[0].camera.K
        camera = Camera(K, np.array([0.01, 0.0, 0.0, 0.0]), "equidistant", 640, 480)
        assert answer(live, live.see.show(clip[0].image, camera)).people
        assert answer(live, live.see.show(clip[0].image, clip[0].camera)).people


class TestOutputs:
    def test_every_topic(self, live, clip):
        sensor = qos_profile_sensor_data
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        topics = {
            "/mpmesh/detections": live.see.listen(Detection3DArray, "/mpmesh/detections"),
            "/mpmesh/target_pose": live.see.listen(PoseStamped, "/mpmesh/target_pose"),
            "/mpmesh/points": live.see.listen(PointCloud2, "/mpmesh/points", sensor),
            "/mpmesh/markers": live.see.listen(MarkerArray, "/mpmesh/markers"),
            # reliably, as RViz does: of 3 MB, best effort loses most on a busy machine
            "/mpmesh/mesh_markers": live.see.listen(MarkerArray, "/mpmesh/mesh_markers"),
            "/mpmesh/overlay/compressed": live.see.listen(
                CompressedImage, "/mpmesh/overlay/compressed"
            ),
            "/tf": live.see.listen(TFMessage, "/tf"),
            "/mpmesh/topology": live.see.listen(MeshTopology, "/mpmesh/topology", latched),
        }
        live.see.call(Trigger, "/mpmesh/reset_tracks", Trigger.Request())  # so that nobody coasts
        for _ in range(10):  # what is best effort may be lost now and then
            header = live.see.show(clip[0].image, clip[0].camera)
            message = answer(live, header)
            live.see.rest(0.5)
            if all(topics.values()):
                break
        assert {topic for topic, heard in topics.items() if not heard} == set()

        def last(topic, part):
            """The last message that isn't of nobody: on a busy machine that one follows soon."""
            return next(m for m in reversed(topics[topic]) if part(m))

        def meshes(message):
            return [m for m in message.markers if m.action == m.ADD]

        def ready():
            found = [
                last("/mpmesh/detections", lambda m: m.detections).header,
                last("/tf", lambda m: m.transforms).transforms[0].header,
                last("/mpmesh/points", lambda m: m.width).header,
            ]
            return found == [header] * 3

        live.see.until(ready)
        there = [person for person in message.people if person.track_state != person.LOST]
        count = len(there)
        assert len(last("/mpmesh/detections", lambda m: m.detections).detections) == count
        faces = len(topics["/mpmesh/topology"][0].faces)
        triangles = meshes(last("/mpmesh/mesh_markers", meshes))
        assert sum(len(marker.points) for marker in triangles) == count * faces
        vertices = topics["/mpmesh/topology"][0].vertex_count
        assert last("/mpmesh/points", lambda m: m.width).width == count * vertices
        frames = {t.child_frame_id for t in last("/tf", lambda m: m.transforms).transforms}
        assert frames == {f"body_{person.track_id}" for person in there}

    def test_diagnostics(self, live, clip):
        heard = live.see.listen(DiagnosticArray, "/diagnostics")
        live.see.until(lambda: any("image topic" in values_of(m) for m in heard))
        values = values_of(heard[-1])
        assert values["state"] == "active"
        assert values["image topic"] == "/camera/image_raw"
        assert values["image publishers"] == "1"
        assert int(values["unusable"]) > 0 and len(values["weights"]) == 12


class TestServices:
    def test_enable(self, live, clip):
        answer(live, live.see.show(clip[0].image, clip[0].camera))
        off = live.see.call(SetBool, "/mpmesh/enable", SetBool.Request(data=False))
        assert off.success
        live.see.until(lambda: live.people[-1].people == [])
        live.see.until(lambda: live.see.images.get_subscription_count() == 0)
        count = len(live.people)
        live.see.show(clip[0].image)
        live.see.rest(0.5)
        assert len(live.people) == count
        assert live.see.call(SetBool, "/mpmesh/enable", SetBool.Request(data=True)).success
        live.see.ready()
        assert len(answer(live, live.see.show(clip[0].image)).people) == 3

    def test_reset_tracks_goes_on_counting(self, live, clip):
        before = answer(live, live.see.show(clip[0].image, clip[0].camera))
        assert live.see.call(Trigger, "/mpmesh/reset_tracks", Trigger.Request()).success
        after = answer(live, live.see.show(clip[0].image))
        highest = max(person.track_id for person in before.people)
        assert min(person.track_id for person in after.people) > highest


class TestParameters:
    def test_ranges_and_read_only(self, live):
        request = DescribeParameters.Request(names=["max_people", "max_image_age_s", "backend"])
        found = live.see.call(DescribeParameters, "/mpmesh/describe_parameters", request)
        people, age, backend = found.descriptors
        assert (people.integer_range[0].from_value, people.integer_range[0].to_value) == (1, 256)
        assert people.read_only and not age.read_only
        assert age.floating_point_range[0].to_value == 60.0
        assert "tensorrt" in backend.additional_constraints and backend.description

    @pytest.mark.parametrize(
        ("name", "value", "accepted"),
        [
            ("max_image_age_s", 2.0, True),
            ("max_image_age_s", 100.0, False),
            ("max_image_age_s", 0.5, True),
            ("max_people", 5, False),
            ("vertices", True, True),
        ],
    )
    def test_setting(self, live, name, value, accepted):
        result = set_parameter(live.see, name, value)
        assert result.successful is accepted
        assert accepted or result.reason

    def test_a_change_counts_with_the_next_picture(self, live, clip):
        set_parameter(live.see, "vertices", True)
        message = answer(live, live.see.show(clip[0].image, clip[0].camera))
        assert len(message.people[0].vertices) > 3000
        set_parameter(live.see, "vertices", False)
        assert len(answer(live, live.see.show(clip[0].image)).people[0].vertices) == 0


class TestAge:
    def test_old_pictures_are_dropped(self, clip, tmp_path):
        for live in started(tmp_path, max_image_age_s=2.0):
            live.see.show(clip[0].image, clip[0].camera)  # long ago: of another clock, so it counts
            live.see.until(lambda live=live: live.people and "behind the clock" in live.node.text)
            now = live.see.node.get_clock().now()
            count = len(live.people)
            live.see.show(clip[0].image, stamp=now - Duration(seconds=10))
            live.see.until(lambda live=live: "more than max_image_age_s" in live.node.text)
            assert len(live.people) == count
            header = live.see.show(clip[0].image, stamp=live.see.node.get_clock().now())
            assert answer(live, header).people


class TestQos:
    def test_best_effort_camera(self, clip, tmp_path):
        sensor = {RELIABILITY: "best_effort"}
        for live in started(tmp_path, reliable=False, **sensor):
            for _ in range(10):  # what is best effort may be lost now and then
                live.see.show(clip[0].image, clip[0].camera)
                live.see.rest(0.5)
            assert max(len(message.people) for message in live.people) == 3

    def test_a_mismatch_is_explained(self, clip, tmp_path):
        see = Observer(reliable=False)
        node = NodeProcess(tmp_path / "node.log", see.domain)
        see.until(lambda: "reliability doesn't fit" in node.text, START_S)
        assert RELIABILITY in node.text
        assert node.stop() == 0
        see.close()


class TestLifecycle:
    def test_through_all_states(self, clip, tmp_path):
        see = Observer()
        node = NodeProcess(tmp_path / "node.log", see.domain, autostart="false")
        people = see.listen(SmplPersonArray, "/mpmesh/people")
        live = SimpleNamespace(see=see, people=people)
        see.until(lambda: see.node.count_services("/mpmesh/get_state"), START_S)
        known = set()
        for _ in range(2):
            assert state(see) == State.PRIMARY_STATE_UNCONFIGURED
            assert change(see, Transition.TRANSITION_CONFIGURE)
            assert state(see) == State.PRIMARY_STATE_INACTIVE
            assert see.images.get_subscription_count() == 0
            assert change(see, Transition.TRANSITION_ACTIVATE)
            see.ready()
            ids = {p.track_id for p in answer(live, see.show(clip[0].image, clip[0].camera)).people}
            assert ids and not ids & known  # never used twice
            known |= ids
            assert change(see, Transition.TRANSITION_DEACTIVATE)
            see.until(lambda: people[-1].people == [])
            assert change(see, Transition.TRANSITION_CLEANUP)
        assert change(see, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        assert node.stop() == 0, node.text
        see.close()

    def test_what_cannot_be_loaded_is_said_and_the_node_stays(self, tmp_path):
        see = Observer()
        node = NodeProcess(tmp_path / "node.log", see.domain, weights=tmp_path)
        heard = see.listen(DiagnosticArray, "/diagnostics")
        see.until(lambda: "cannot configure: weights folder" in node.text, START_S)
        assert state(see) == State.PRIMARY_STATE_UNCONFIGURED
        see.until(lambda: heard and heard[-1].status[0].level == DiagnosticStatus.ERROR)
        assert heard[-1].status[0].message.startswith("cannot configure: weights folder")
        assert node.stop() == 0
        see.close()

    def test_what_cannot_be_activated_is_said_and_the_node_stays(self, tmp_path):
        see = Observer()
        node = NodeProcess(tmp_path / "node.log", see.domain, **{RELIABILITY: "perfect"})
        see.until(lambda: "cannot activate" in node.text and "perfect" in node.text, START_S)
        assert state(see) == State.PRIMARY_STATE_INACTIVE
        assert node.stop() == 0
        see.close()

    def test_impossible_parameter_is_one_line(self, tmp_path):
        see = Observer()
        node = NodeProcess(tmp_path / "node.log", see.domain, backend="cuda")
        assert node.process.wait(START_S) == 2
        assert node.text.count("\n") == 1 and "backend 'cuda'" in node.text
        see.close()

    def test_killed_and_restarted(self, clip, tmp_path):
        see = Observer()
        people = see.listen(SmplPersonArray, "/mpmesh/people")
        live = SimpleNamespace(see=see, people=people)
        for _ in range(2):
            node = NodeProcess(tmp_path / "node.log", see.domain)
            see.ready()
            assert answer(live, see.show(clip[0].image, clip[0].camera)).people
            node.stop(signal.SIGKILL)
            see.until(lambda: see.images.get_subscription_count() == 0)
        see.close()

    def test_the_last_word_is_that_nobody_is_there(self, clip, tmp_path):
        for live in started(tmp_path):
            assert answer(live, live.see.show(clip[0].image, clip[0].camera)).people
            live.node.process.send_signal(signal.SIGINT)
            live.see.until(lambda live=live: live.people[-1].people == [])
            assert live.node.process.wait(30) == 0
            live.see.close()
            break


def values_of(message):
    return {row.key: row.value for status in message.status for row in status.values}


def state(see):
    return see.call(GetState, "/mpmesh/get_state", GetState.Request()).current_state.id


def change(see, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return see.call(ChangeState, "/mpmesh/change_state", request).success
