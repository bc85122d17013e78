"""messages.clouds: the surface of people as a sensor_msgs/PointCloud2, for obstacle layers."""

from __future__ import annotations

import numpy as np

from mpmesh_core.messages.frame import MessageFrame
from mpmesh_core.messages.geometry import header_message
from mpmesh_core.messages.templates import with_sequences
from mpmesh_core.messages.types import MessageTypes

POINT = np.dtype([("xyz", "<f4", 3), ("track_id", "<i4")])
_FIELDS = (("x", 0, "FLOAT32"), ("y", 4, "FLOAT32"), ("z", 8, "FLOAT32"), ("track_id", 12, "INT32"))
_PLACEHOLDER = np.frombuffer(b"\xb5points\x9e\xa1", np.uint8)
_PLACEHOLDERS = _PLACEHOLDER.tobytes(), _PLACEHOLDER.size


def surface_cloud(types: MessageTypes, frame: MessageFrame) -> bytes:
    """Serialised sensor_msgs/PointCloud2 of the vertices [m] of the people seen in this frame.

    Their numbers are `track_id`. Those who are only expected (`coasted`) are left out: a planner
    should see no wall where nobody was measured.
    """
    seen = [i for i, person in enumerate(frame.people) if person.state != "coasted"]
    size = len(frame.body.v_template)
    points = np.empty((len(seen), size), POINT)
    for row, i in enumerate(seen):
        points["xyz"][row] = frame.vertices[i]
        points["track_id"][row] = frame.numbers[i]
    field = types["sensor_msgs/msg/PointField"]
    cloud = types["sensor_msgs/msg/PointCloud2"](
        header=header_message(types, frame.header),
        height=1,
        width=points.size,
        fields=[
            field(name=name, offset=offset, datatype=getattr(field, kind), count=1)
            for name, offset, kind in _FIELDS
        ],
        is_bigendian=False,
        point_step=POINT.itemsize,
        row_step=points.nbytes,
        data=types.sequence(_PLACEHOLDER if seen else _PLACEHOLDER[:0]),
        is_dense=True,
    )
    content = [points.reshape(-1).view(np.uint8)] if seen else []
    return with_sequences(types.serialize(cloud), *_PLACEHOLDERS, content)
