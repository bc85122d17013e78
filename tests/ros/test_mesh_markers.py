"""messages.mesh_markers: the hand-made bytes are those of the plain way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_samples import frame_of, room
from people_samples import standing_person

from mpmesh_core.messages.geometry import points_message
from mpmesh_core.messages.markers import MarkerMaker, deletions
from mpmesh_core.messages.mesh_markers import MeshMarkers, mesh_marker
from mpmesh_core.messages.rosbags_types import RosbagsTypes


def plain_bytes(types, frame, gone=()):
    """The same message, made of one object a point."""
    maker = MarkerMaker(types, frame.header)
    corners = frame.body.faces.numpy().reshape(-1)
    markers = [
        mesh_marker(maker, frame, i, points_message(types, vertices[corners]))
        for i, vertices in enumerate(frame.vertices)
    ]
    return types.serialize(maker.array(markers + deletions(maker, gone)))


class TestMeshMarkers:
    @pytest.mark.parametrize("distribution", ["humble", "jazzy"])
    def test_bytes_are_those_of_the_plain_way(self, body, camera, distribution):
        types = RosbagsTypes(distribution)
        frame = frame_of(body, camera, room(body, camera, 2))
        assert MeshMarkers(types).message(frame) == plain_bytes(types, frame)

    @settings(max_examples=12, deadline=None)
    @given(frame_id=st.text(alphabet="abc_/", max_size=9), ids=st.sets(st.integers(0, 10**6)))
    def test_any_alignment(self, body, camera, frame_id, ids):
        types = RosbagsTypes()
        people = [standing_person(body, camera, 0.0, 4.0, track_id=i) for i in sorted(ids)[:3]]
        frame = frame_of(body, camera, people, frame_id)
        data = MeshMarkers(types).message(frame)
        message = types.store.deserialize_cdr(data, "visualization_msgs/msg/MarkerArray")
        assert [marker.id for marker in message.markers] == [p.track_id for p in people]
        for marker, vertices in zip(message.markers, frame.vertices):
            assert marker.header.frame_id == frame_id
            assert len(marker.points) == body.faces.numel()
            last = marker.points[-1]
            np.testing.assert_array_equal(
                [last.x, last.y, last.z], vertices[int(body.faces[-1, -1])]
            )

    def test_lost_mesh_is_deleted(self, body, camera):
        types = RosbagsTypes()
        meshes = MeshMarkers(types)
        meshes.message(frame_of(body, camera, room(body, camera, 1)))
        empty = frame_of(body, camera, [])
        data = meshes.message(empty)
        assert data == plain_bytes(types, empty, [("mesh", 0)])
        message = types.store.deserialize_cdr(data, "visualization_msgs/msg/MarkerArray")
        assert [(m.ns, m.id, m.action) for m in message.markers] == [("mesh", 0, 2)]
        assert meshes.message(empty) == plain_bytes(types, empty)
