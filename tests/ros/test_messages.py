"""messages: what every output says, with the definitions of Humble and of Jazzy, through CDR."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from message_samples import frame_of, room
from people_samples import random_person, standing_person
from scipy.spatial.transform import Rotation

from mpmesh_core.joints import SMPL_JOINTS, SMPL_PARENTS
from mpmesh_core.messages import OUTPUTS, MessageBuilder, MessageOptions
from mpmesh_core.messages.clouds import POINT
from mpmesh_core.messages.frame import stacked
from mpmesh_core.messages.humans import ROOT
from mpmesh_core.messages.markers import ELLIPSOID_SIGMAS, ellipsoids
from mpmesh_core.messages.navigation import (
    RigidTransform,
    body_boxes,
    choose_target,
    joint_poses,
    people_message,
)
from mpmesh_core.messages.rosbags_types import RosbagsTypes, definitions
from mpmesh_core.sources.frames import Header


@pytest.fixture(params=["humble", "jazzy"])
def types(request):
    return RosbagsTypes(request.param)


@pytest.fixture
def frame(body, camera):
    return frame_of(body, camera, room(body, camera, 3))


def sent(types, builder, name, frame):
    """A message as a subscriber gets it."""
    message = builder.build(name, frame)
    kind = next(output.type for output in OUTPUTS if output.name == name)
    data = message if isinstance(message, bytes) else types.serialize(message)
    return types.store.deserialize_cdr(data, kind)


def xyz(point):
    return np.array([point.x, point.y, point.z])


def rotation(quaternion):
    return Rotation.from_quat([quaternion.x, quaternion.y, quaternion.z, quaternion.w])


class TestEveryOutput:
    @pytest.mark.parametrize("name", [output.name for output in OUTPUTS])
    @pytest.mark.parametrize("people", [0, 1, 30])
    def test_serialises_with_stamp_and_frame(self, types, body, camera, name, people):
        picture = np.zeros((48, 64, 3), np.uint8)
        frame = replace(frame_of(body, camera, room(body, camera, people)), picture=picture)
        builder = MessageBuilder(types, MessageOptions(vertices=True, joint_frames=True))
        if name == "target_pose" and not people:
            assert builder.build(name, frame) is None
            return
        message = sent(types, builder, name, frame)
        stamped = [message] if hasattr(message, "header") else []
        stamped += getattr(message, "markers", []) + getattr(message, "transforms", [])
        for part in stamped:
            assert (part.header.stamp.sec, part.header.stamp.nanosec) == (12, 500_000_000)
            assert part.header.frame_id.startswith(("camera_optical", "body_"))

    def test_definitions_are_those_that_nobody_else_brings(self):
        names = dict(definitions())
        assert {name.split("/")[0] for name in names} == {
            "mpmesh_ros", "vision_msgs", "people_msgs", "hri_msgs",
        }  # fmt: skip
        assert "mpmesh_ros/msg/SmplPersonArray" in names

    def test_documentation_lists_them(self):
        page = (Path(__file__).parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")
        for output in OUTPUTS:
            row = f"| `{output.name}` | `{output.topic}` | `{output.type.replace('/msg/', '/')}` |"
            assert row in page


class TestPeople:
    def test_fields_come_back(self, types, frame):
        message = sent(types, MessageBuilder(types, MessageOptions(vertices=True)), "people", frame)
        assert message.model_type == frame.body.name
        assert message.joint_names == list(SMPL_JOINTS)
        for sent_person, person, vertices in zip(message.people, frame.people, frame.vertices):
            assert sent_person.track_id == person.track_id
            assert sent_person.track_state == sent_person.TRACKED
            for name in ("betas", "global_orient", "body_pose", "transl", "joints", "joints_2d"):
                wanted = np.asarray(getattr(person, name), np.float32).reshape(-1)
                np.testing.assert_array_equal(getattr(sent_person, name), wanted)
            np.testing.assert_array_equal(sent_person.vertices.reshape(-1, 3), vertices)
            np.testing.assert_allclose(xyz(sent_person.root.pose.position), person.position)
            np.testing.assert_allclose(xyz(sent_person.velocity), person.velocity)
            covariance = sent_person.root.covariance.reshape(6, 6)
            np.testing.assert_allclose(covariance[:3, :3], person.position_covariance)
            assert sent_person.velocity_valid and np.isnan(sent_person.fit_residual)

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), state=st.sampled_from(["new", "coasted", "lost"]))
    def test_any_person_in_any_state(self, body, camera, seed, state):
        types = RosbagsTypes()
        rng = np.random.default_rng(seed)
        person = replace(random_person(rng, 7), state=state, bbox=rng.normal(0, 1e4, 4))
        frame = frame_of(body, camera, [person])
        (got,) = sent(types, MessageBuilder(types), "people", frame).people
        assert got.track_state == getattr(got, state.upper())
        assert got.roi.x_offset + got.roi.width <= camera.width
        assert got.roi.y_offset + got.roi.height <= camera.height
        assert got.vertices.size == 0

    def test_roi_covers_the_box(self, types, body, camera):
        person = replace(
            standing_person(body, camera, 0, 4.0), bbox=np.array([10.7, 20.2, 99.5, 900.0])
        )
        frame = frame_of(body, camera, [person])
        roi = sent(types, MessageBuilder(types), "people", frame).people[0].roi
        assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == (10, 20, 90, 460)

    def test_topology(self, types, frame):
        message = sent(types, MessageBuilder(types), "topology", frame)
        np.testing.assert_array_equal(message.faces.reshape(-1, 3), frame.body.faces.numpy())
        assert message.vertex_count == len(frame.vertices[0])


class TestBodyAxes:
    def test_somebody_who_faces_the_camera(self, types, frame):
        """REP 155: x to the front (towards the camera), y to the left, z up."""
        axes = frame.body_axes[0].as_matrix()
        np.testing.assert_allclose(axes[:, 0], [0, 0, -1], atol=1e-6)
        np.testing.assert_allclose(axes[:, 1], [1, 0, 0], atol=1e-6)
        np.testing.assert_allclose(axes[:, 2], [0, -1, 0], atol=1e-6)

    def test_joint_frames_are_those_of_the_posed_body(self, body, camera):
        rng = np.random.default_rng(3)
        rotvecs = torch.tensor(rng.normal(0, 0.5, (24, 3)), dtype=torch.float32)
        rotations, betas = roma.rotvec_to_rotmat(rotvecs), torch.zeros(10)
        posed = body(rotations, betas, torch.tensor([0.0, 0.0, 3.0]))
        person = replace(
            standing_person(body, camera, 0.0, 3.0),
            global_orient=rotvecs[0].numpy(),
            body_pose=rotvecs[1:].reshape(-1).numpy(),
            joints=posed.joints.numpy(),
            position=posed.joints[0].numpy(),
        )
        frame = frame_of(body, camera, [person])
        positions, quaternions = (part[0] for part in joint_poses(frame))
        in_camera = frame.body_origins[0] + frame.body_axes[0].apply(positions)
        np.testing.assert_allclose(in_camera, person.joints, atol=1e-5)
        # a bone of the rest pose, turned as its joint is, is the bone of the posed body
        rest = body.rest_joints(betas).numpy()
        turns = frame.body_axes[0] * Rotation.from_quat(quaternions)
        to_smpl = Rotation.from_matrix(np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])).inv()
        for joint in range(1, 24):
            parent = SMPL_PARENTS[joint]
            bone = (turns[parent] * to_smpl).apply(rest[joint] - rest[parent])
            np.testing.assert_allclose(
                bone, person.joints[joint] - person.joints[parent], atol=1e-5
            )

    def test_transforms_name_body_and_joints(self, types, frame):
        builder = MessageBuilder(types, MessageOptions(joint_frames=True))
        transforms = sent(types, builder, "tf", frame).transforms
        assert [t.child_frame_id for t in transforms[:4]] == [
            "body_0", "body_1", "body_2", "pelvis_0",
        ]  # fmt: skip
        assert transforms[3].header.frame_id == "body_0"
        assert len(transforms) == 3 + 3 * 24
        hips = frame.joints[0, 1:3].mean(0)
        np.testing.assert_allclose(xyz(transforms[0].transform.translation), hips, atol=1e-6)

    def test_two_cameras_share_no_name(self, types, frame):
        def names(prefix):
            options = MessageOptions(joint_frames=True, prefix=prefix)
            builder = MessageBuilder(types, options)
            transforms = sent(types, builder, "tf", frame).transforms
            tree = {t.child_frame_id: t.header.frame_id for t in transforms}
            assert {parent for parent in tree.values() if parent not in tree} == {"camera_optical"}
            people = sent(types, builder, "navigation_people", frame).people
            topics = {part.topic for part in builder.humans(frame)} - {"/tf", f"{ROOT}/tracked"}
            ids = {f"body_{name}" for name in builder.humans(frame)[0].message.ids}
            return {*tree, *topics, *ids, *(person.name for person in people)}

        left, right, plain = names("left_"), names("right_"), names("")
        assert len(left) == len(right) == len(plain)
        assert not left & right and not left & plain
        assert {"left_body_1", "left_pelvis_1", "left_person_1", "body_left_p1"} <= left


class TestNavigation:
    def test_boxes_hold_the_joints(self, types, frame):
        centres, sizes = body_boxes(frame)
        message = sent(types, MessageBuilder(types), "detections", frame)
        for i, detection in enumerate(message.detections):
            pose = detection.bbox.center
            local = rotation(pose.orientation).inv().apply(frame.joints[i] - xyz(pose.position))
            assert (np.abs(local) <= xyz(detection.bbox.size) / 2).all()
            np.testing.assert_allclose(xyz(detection.bbox.size), sizes[i])
            np.testing.assert_allclose(xyz(pose.position), centres[i])
            assert detection.id == str(i)
            assert detection.results[0].hypothesis.class_id == "person"

    def test_people_in_another_frame(self, types, frame):
        R = Rotation.from_euler("xyz", [0.3, -1.0, 2.0]).as_matrix()
        transform = RigidTransform("map", R, np.array([1.0, 2.0, 3.0]))
        message = people_message(types, frame, transform)
        assert message.header.frame_id == "map"
        for person, known in zip(message.people, frame.people):
            np.testing.assert_allclose(xyz(person.position), R @ known.position + transform.t)
            np.testing.assert_allclose(xyz(person.velocity), R @ known.velocity)

    def test_target_stays_and_then_is_the_nearest_confirmed(self, body, camera):
        near, far = (
            standing_person(body, camera, 0, 2.0, 4),
            standing_person(body, camera, 1, 5.0, 9),
        )
        frame = frame_of(body, camera, [far, near])
        assert choose_target(frame) == 4
        assert choose_target(frame, previous=9) == 9
        assert choose_target(frame_of(body, camera, [far]), previous=4) == 9
        unsure = frame_of(body, camera, [far, replace(near, state="new")])
        assert choose_target(unsure) == 9
        assert choose_target(frame_of(body, camera, [])) is None

    def test_asked_target_only(self, types, frame):
        builder = MessageBuilder(types, MessageOptions(target=2))
        pose = sent(types, builder, "target_pose", frame).pose
        np.testing.assert_allclose(xyz(pose.position), frame.body_origins[2])
        assert MessageBuilder(types, MessageOptions(target=77)).build("target_pose", frame) is None

    def test_cloud_holds_every_vertex_of_those_seen(self, types, body, camera):
        people = room(body, camera, 3)
        people[1] = replace(people[1], state="coasted")
        frame = frame_of(body, camera, people)
        cloud = sent(types, MessageBuilder(types), "points", frame)
        points = np.frombuffer(cloud.data.tobytes(), POINT).reshape(2, -1)
        assert cloud.width == points.size and cloud.row_step == cloud.data.size
        np.testing.assert_array_equal(points["xyz"][1], frame.vertices[2])
        assert points["track_id"].tolist() == [[0] * points.shape[1], [2] * points.shape[1]]
        offsets = {field.name: field.offset for field in cloud.fields}
        assert offsets == {"x": 0, "y": 4, "z": 8, "track_id": 12}


class TestMarkers:
    def test_what_goes_is_deleted_once(self, types, body, camera):
        builder = MessageBuilder(types)
        people = room(body, camera, 2)
        both = sent(types, builder, "markers", frame_of(body, camera, people)).markers
        assert {(m.ns, m.id) for m in both} == {
            (ns, i) for ns in ("skeleton", "name", "velocity", "covariance") for i in (0, 1)
        }
        standing = [replace(people[0], velocity=None), replace(people[1], state="lost")]
        frame = frame_of(body, camera, standing)
        gone = [m for m in sent(types, builder, "markers", frame).markers if m.action == m.DELETE]
        assert {(m.ns, m.id) for m in gone} == {
            ("velocity", 0), ("skeleton", 1), ("name", 1), ("velocity", 1), ("covariance", 1),
        }  # fmt: skip
        again = sent(types, builder, "markers", frame).markers
        assert all(m.action == m.ADD for m in again)

    def test_skeleton_has_every_bone(self, types, frame):
        markers = sent(types, MessageBuilder(types), "markers", frame).markers
        skeleton = next(m for m in markers if m.ns == "skeleton")
        points = np.array([xyz(p) for p in skeleton.points]).reshape(-1, 2, 3)
        for (parent, joint), bone in zip(
            ((p, j) for j, p in enumerate(SMPL_PARENTS) if p >= 0), points, strict=True
        ):
            np.testing.assert_allclose(bone, frame.joints[0, [parent, joint]])

    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_ellipsoid_is_the_covariance(self, seed):
        root = np.random.default_rng(seed).normal(size=(4, 3, 3))
        covariance = root @ root.swapaxes(-1, -2)
        diameters, quaternions = ellipsoids(covariance)
        axes = Rotation.from_quat(quaternions).as_matrix()
        variances = (diameters / (2 * ELLIPSOID_SIGMAS)) ** 2
        again = axes @ (variances[..., None] * axes.swapaxes(-1, -2))
        np.testing.assert_allclose(again, covariance, atol=1e-5, rtol=1e-3)


class TestFrame:
    def test_numbers_without_tracking_are_places(self, body, camera):
        people = [standing_person(body, camera, 0, 3.0, track_id=-1, state="untracked")] * 2
        assert frame_of(body, camera, people).numbers == [0, 1]

    def test_nobody(self, body, camera):
        frame = frame_of(body, camera, [])
        assert frame.body_axes.as_matrix().shape == (0, 3, 3)
        assert frame.positions.shape == frame.body_origins.shape == (0, 3)
        assert stacked([], (24, 3)).shape == (0, 24, 3)

    @given(st.floats(0, 2e9))
    def test_header_keeps_the_time(self, seconds):
        header = Header.from_seconds(seconds)
        assert 0 <= header.nanosec < 1_000_000_000
        assert abs(header.nanoseconds - seconds * 1e9) <= 256  # float64 at 2e9 s
