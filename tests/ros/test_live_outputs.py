"""The node with everything switched on: compressed pictures, depth, TF, REP 155; and a crowd."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 isn't sourced")
pytest.importorskip("mpmesh_ros.msg", reason="mpmesh_ros isn't built; source its workspace")
pytest.importorskip("hri_msgs.msg", reason="hri_msgs isn't installed")
pytest.importorskip("people_msgs.msg", reason="people_msgs isn't installed")

from geometry_msgs.msg import PoseStamped, TransformStamped
from hri_msgs.msg import IdsList, Skeleton2D
from live import NodeProcess, Observer, set_parameter
from message_samples import room
from mpmesh_ros.msg import SmplPersonArray
from people_msgs.msg import People
from people_samples import result_of
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from tf2_ros import StaticTransformBroadcaster
from visualization_msgs.msg import MarkerArray

from mpmesh_core.sources.frames import Header
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_ros.estimator import Estimate
from mpmesh_ros.picture_source import camera_info_message
from mpmesh_ros.problems import Problems
from mpmesh_ros.publishers import Publishers
from mpmesh_ros.settings import NodeSettings

DISTANCE = 3.3  # that the depth image says [m]
CROWD = 30
PICTURES = ("/camera/image_raw/compressed", "/camera/depth")


@pytest.fixture(scope="module")
def scene():
    return next(demo_clip(frames=1))


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    see = Observer()
    node = NodeProcess(
        tmp_path_factory.mktemp("outputs") / "node.log",
        see.domain,
        remap={"depth": "/camera/depth"},
        image_transport="compressed",
        use_depth="true",
        humans="true",
        joint_frames="true",
        navigation_frame="base_link",
        **{f"qos_overrides.{topic}.subscription.reliability": "reliable" for topic in PICTURES},
    )
    pictures = see.node.create_publisher(CompressedImage, "/camera/image_raw/compressed", 1)
    depths = see.node.create_publisher(Image, "/camera/depth", 1)
    see.until(lambda: pictures.get_subscription_count() and depths.get_subscription_count(), 60.0)
    see.until(lambda: see.infos.get_subscription_count())
    yield SimpleNamespace(see=see, node=node, pictures=pictures, depths=depths)
    assert node.alive, node.text
    assert node.stop() == 0, node.text
    see.close()


def static_camera(node):
    """The camera 1.25 m above the robot, looking ahead; while the result lives."""
    broadcaster = StaticTransformBroadcaster(node)
    transform = TransformStamped(child_frame_id="camera_optical_frame")
    transform.header.frame_id = "base_link"
    transform.transform.translation.z = 1.25
    q = transform.transform.rotation
    q.x, q.y, q.z, q.w = -0.5, 0.5, -0.5, 0.5
    broadcaster.sendTransform(transform)
    return broadcaster


def show(live, scene, metres=None, step_s=0.2):
    """A compressed picture, and a depth image that says so many metres everywhere."""
    header = live.see.header(step_s)
    live.see.infos.publish(camera_info_message(header, scene.camera))
    live.see.rest(0.1)
    _, data = cv2.imencode(".png", scene.image[..., ::-1])
    live.pictures.publish(CompressedImage(header=header, format="png", data=data.tobytes()))
    if metres is not None:
        values = np.full((480, 640), 1e3 * metres, "<u2")
        depth = Image(header=header, height=480, width=640, encoding="16UC1", step=1280)
        depth.data = values.tobytes()
        live.depths.publish(depth)
    return header


def answered(live, heard, scene, **more):
    """The message with the header's stamp that follows a picture."""
    header = show(live, scene, **more)
    live.see.until(lambda: heard and heard[-1].header.stamp == header.stamp)
    return heard[-1]


class TestEverything:
    def test_compressed_picture_and_measured_distance(self, live, scene):
        people = live.see.listen(SmplPersonArray, "/mpmesh/people")
        message = answered(live, people, scene, metres=DISTANCE)
        assert len(message.people) == 3
        near = [p for p in message.people if abs(p.root.pose.position.z - DISTANCE) < 0.4]
        assert near  # those who were within reach of a wall at that distance
        sigma = [np.sqrt(p.root.covariance[14]) for p in near]
        assert min(sigma) < 0.15

    def test_navigation_frame(self, live, scene):
        walkers = live.see.listen(People, "/people")
        show(live, scene, metres=DISTANCE)
        live.see.until(lambda: "no transform from camera_optical_frame" in live.node.text)
        broadcaster = static_camera(live.see.node)
        live.see.rest(0.5)
        message = answered(live, walkers, scene, metres=DISTANCE)
        assert message.header.frame_id == "base_link"
        assert all(person.position.x > 1.0 for person in message.people)
        assert "navigation: well again" in live.node.text
        del broadcaster

    def test_navigation_when_a_bag_begins_again(self, live, scene):
        """Transforms of a moving robot; tf2 drops those that are older than what it has."""
        walkers = live.see.listen(People, "/people")
        moves = live.see.node.create_publisher(TFMessage, "/tf", 10)
        static = static_camera(live.see.node)
        assert set_parameter(live.see, "navigation_frame", "map").successful
        live.see.until(lambda: moves.get_subscription_count() > 0)
        for step_s in (0.2, 0.2, -100.0, 0.2):
            header = show(live, scene, metres=DISTANCE, step_s=step_s)
            move = TransformStamped(child_frame_id="base_link")
            move.header.frame_id, move.header.stamp = "map", header.stamp
            move.transform.rotation.w, move.transform.translation.x = 1.0, 10.0
            moves.publish(TFMessage(transforms=[move]))
            live.see.rest(1.0)
        header = show(live, scene, metres=DISTANCE, step_s=0.0)
        live.see.until(lambda: walkers and walkers[-1].header.stamp == header.stamp)
        assert walkers[-1].header.frame_id == "map"
        assert all(person.position.x > 11.0 for person in walkers[-1].people)
        assert set_parameter(live.see, "navigation_frame", "base_link").successful
        del static

    def test_humans(self, live, scene):
        tracked = live.see.listen(IdsList, "/humans/bodies/tracked")
        ids = answered(live, tracked, scene, metres=DISTANCE).ids
        assert len(ids) >= 3 and all(name.startswith("p") for name in ids)
        skeletons = live.see.listen(Skeleton2D, f"/humans/bodies/{ids[0]}/skeleton2d")
        live.see.rest(1.0)
        message = answered(live, skeletons, scene, metres=DISTANCE)
        assert all(0 <= p.x <= 1 and 0 <= p.y <= 1 for p in message.skeleton)

    def test_without_depth_pictures_go_on(self, live, scene):
        people = live.see.listen(SmplPersonArray, "/mpmesh/people")
        first = show(live, scene)
        show(live, scene)
        live.see.until(lambda: any(m.header.stamp == first.stamp for m in people))


def test_nothing_waits_for_the_drawing_or_for_tf(body, camera, scene, monkeypatch):
    see = Observer()
    node = LifecycleNode("mpmesh", context=see.node.context)
    settings = NodeSettings(navigation_frame="nowhere")
    publishers = Publishers(node, body, settings, Problems(print, print))
    order = []
    monkeypatch.setattr(publishers, "_wanted", lambda name: True)
    for name in publishers._topics:
        monkeypatch.setitem(
            publishers._topics,
            name,
            SimpleNamespace(publish=lambda _, name=name: order.append(name)),
        )
    monkeypatch.setattr(publishers._navigation, "transform", lambda *_: order.append("waited"))
    draw = publishers._drawer.draw
    monkeypatch.setattr(
        publishers._drawer, "draw", lambda *args: (order.append("drawn"), draw(*args))[1]
    )
    publishers._humans = SimpleNamespace(publish=lambda _: order.append("humans"))
    people = room(body, camera, 1)
    header = Header(1_700_000_000, 5, "camera_optical_frame")
    publishers.publish(Estimate(header, scene.image, camera, result_of(camera, people)), settings)
    assert order[-3:] == ["waited", "drawn", "overlay"]
    assert {"people", "points", "tf", "target_pose", "humans"} <= set(order[:-3])
    node.destroy_node()
    see.close()


def test_thirty_people(body, camera, scene):
    see = Observer()
    node = LifecycleNode("mpmesh", context=see.node.context)
    problems = Problems(print, print)
    publishers = Publishers(node, body, NodeSettings(), problems)
    heard = {
        name: see.listen(kind, f"/mpmesh/{name}")
        for name, kind in (
            ("people", SmplPersonArray),
            ("markers", MarkerArray),
            ("points", PointCloud2),
            ("target_pose", PoseStamped),
        )
    }
    meshes = see.listen(MarkerArray, "/mpmesh/mesh_markers", raw=True)
    node.trigger_configure()
    node.trigger_activate()
    see.until(lambda: all(see.node.count_publishers(f"/mpmesh/{name}") for name in heard))
    see.rest(1.0)
    crowd = room(body, camera, CROWD)
    header = Header(1_700_000_000, 5, "camera_optical_frame")
    estimate = Estimate(header, scene.image, camera, result_of(camera, crowd))
    for _ in range(5):
        publishers.publish(estimate, NodeSettings())
        see.rest(1.0)
        if all(heard.values()) and meshes:
            break
    assert len(heard["people"][-1].people) == CROWD
    assert {m.id for m in heard["markers"][-1].markers} == set(range(CROWD))
    assert heard["points"][-1].width == CROWD * len(body.v_template)
    assert len(meshes[-1]) > CROWD * 900_000
    publishers.publish_nobody(NodeSettings())
    see.until(lambda: heard["people"][-1].people == [])
    see.until(lambda: all(m.action == m.DELETE for m in heard["markers"][-1].markers))
    publishers.destroy()
    node.destroy_node()
    see.close()
