"""The same builders with rclpy's messages: the same bytes as without ROS, and as the plain way."""

import numpy as np
import pytest
from message_samples import frame_of, room

from mpmesh_core.messages import OUTPUTS, MessageBuilder, MessageOptions
from mpmesh_core.messages.rosbags_types import RosbagsTypes

pytest.importorskip("rclpy", reason="no ROS 2 is sourced")
pytest.importorskip("mpmesh_ros.msg", reason="the package's messages aren't built and sourced")

from mpmesh_ros.message_types import RclpyTypes

OPTIONS = MessageOptions(vertices=True, joint_frames=True)


@pytest.mark.parametrize("name", [output.name for output in OUTPUTS if output.name != "overlay"])
@pytest.mark.parametrize("people", [0, 3])
def test_same_bytes_with_and_without_ros(body, camera, name, people):
    package = next(output.type for output in OUTPUTS if output.name == name).split("/")[0]
    pytest.importorskip(package, reason=f"{package} isn't installed")
    data = []
    for types in (RclpyTypes(), RosbagsTypes("jazzy")):
        frame = frame_of(body, camera, room(body, camera, people))
        message = MessageBuilder(types, OPTIONS).build(name, frame)
        data.append(message if isinstance(message, bytes | None) else types.serialize(message))
    assert data[0] == data[1]


def test_humans_too(body, camera):
    pytest.importorskip("hri_msgs", reason="hri_msgs isn't installed")
    frame = frame_of(body, camera, room(body, camera, 2))
    with_ros, without = (
        [(m.topic, types.serialize(m.message)) for m in MessageBuilder(types).humans(frame)]
        for types in (RclpyTypes(), RosbagsTypes("jazzy"))
    )
    assert with_ros == without


class TestMaker:
    def test_makes_what_the_constructor_makes(self):
        types = RclpyTypes()
        for output in OUTPUTS:
            maker = types[output.type]
            default = maker._cls()
            fields = {n: getattr(default, n) for n in default.get_fields_and_field_types()}
            assert maker._bare, "messages are made in another way now"
            assert maker(**fields) == maker._cls(**fields)
            assert types.serialize(maker(**fields)) == types.serialize(default)

    def test_constants(self):
        assert RclpyTypes()["mpmesh_ros/msg/SmplPerson"].LOST == 4

    def test_sequences_keep_type_and_values(self):
        for dtype in ("u1", "i4", "u4", "f4", "f8"):
            values = np.arange(5).astype(dtype)
            assert np.array_equal(np.array(RclpyTypes().sequence(values)), values)
            assert RclpyTypes().sequence(values[:0]).itemsize == values.itemsize
