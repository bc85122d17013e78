"""messages.templates: numbers and sequences put into serialised messages, against the plain way."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_samples import frame_of, room

from mpmesh_core.errors import NumericalError
from mpmesh_core.messages import MessageBuilder
from mpmesh_core.messages.clouds import POINT
from mpmesh_core.messages.geometry import header_message, pose_message
from mpmesh_core.messages.markers import (
    PersonMarkers,
    marker_layout,
    marker_numbers,
    person_markers,
)
from mpmesh_core.messages.rosbags_types import RosbagsTypes
from mpmesh_core.messages.templates import MessageTemplate, with_sequences
from mpmesh_core.sources.frames import Header

TYPES = RosbagsTypes()


def stamped_pose(header, numbers):
    pose = pose_message(TYPES, numbers[:3].tolist(), numbers[3:].tolist())
    return TYPES["geometry_msgs/msg/PoseStamped"](header=header_message(TYPES, header), pose=pose)


class TestMessageTemplate:
    @settings(max_examples=50, deadline=None)
    @given(
        frame_id=st.text(max_size=9),
        sec=st.integers(-(2**31), 2**31 - 1),
        nanosec=st.integers(0, 10**9 - 1),
        numbers=st.lists(st.floats(), min_size=7, max_size=7),
    )
    def test_fills_in_what_the_plain_way_gives(self, frame_id, sec, nanosec, numbers):
        template = MessageTemplate(TYPES, stamped_pose, frame_id, 7)
        header, values = Header(sec, nanosec, frame_id), np.array(numbers)
        assert template.fill(header, values) == TYPES.serialize(stamped_pose(header, values))

    def test_number_without_a_place(self):
        with pytest.raises(NumericalError, match="number 7 of 8"):
            MessageTemplate(TYPES, lambda h, n: stamped_pose(h, n[:7]), "", 8)


class TestPersonMarkers:
    def test_frame_after_frame_as_the_plain_way(self, body, camera):
        """People move, coast, lose their velocity, come and go; a layout comes back, too."""
        rng = np.random.default_rng(0)
        maker, shown = PersonMarkers(TYPES), frozenset()
        for count, state, moving in [
            (2, "tracked", True), (2, "tracked", True), (2, "coasted", True), (3, "tracked", False),
            (2, "tracked", True), (0, "tracked", True), (0, "tracked", True), (1, "new", False),
        ]:  # fmt: skip
            people = [
                replace(
                    person,
                    state=state,
                    joints=person.joints + rng.normal(size=3),
                    position=rng.normal(size=3),
                    velocity=rng.normal(size=3) if moving else None,
                )
                for person in room(body, camera, count)
            ]
            frame = frame_of(body, camera, people, rng.choice(["camera", "front_camera"]))
            layout, shown = marker_layout(frame, shown)
            plain = person_markers(TYPES, layout, frame.header, marker_numbers(frame))
            assert maker.message(frame) == TYPES.serialize(plain)


class TestWithSequences:
    def test_cloud_as_the_plain_way(self, body, camera):
        frame = frame_of(body, camera, room(body, camera, 2))
        data = MessageBuilder(TYPES).build("points", frame)
        cloud = TYPES.store.deserialize_cdr(data, "sensor_msgs/msg/PointCloud2")
        assert TYPES.serialize(cloud) == data
        assert len(cloud.data) == 2 * len(body.v_template) * POINT.itemsize

    @given(sizes=st.lists(st.integers(1, 9), max_size=4), before=st.binary(min_size=4, max_size=40))
    def test_every_placeholder_gives_way(self, sizes, before):
        placeholder = b"\xf0\xf1\xf2\xf3"
        template = before.replace(placeholder, b"") + b"end"
        for _ in sizes:
            template += (2).to_bytes(4, "little") + placeholder + b"rest"
        arrays = [np.arange(size, dtype="<u2") for size in sizes]
        data = with_sequences(template, placeholder, 2, arrays)
        for size, values in zip(sizes, arrays):
            assert size.to_bytes(4, "little") + values.tobytes() + b"rest" in data
        assert data.startswith(before.replace(placeholder, b"") + b"end")
