"""navigation: the way from the camera to the navigation frame, through tf2."""

from __future__ import annotations

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from tf2_ros import Buffer, TransformException, TransformListener

from mpmesh_core.messages.navigation import RigidTransform
from mpmesh_core.sources.frames import Header
from mpmesh_ros.problems import Problems


class NavigationFrame:
    """Looks transforms up; from another thread than the executor's, since it may wait.

    Args:
        node: the node.
        problems: where a missing transform is reported.
    """

    def __init__(self, node: Node, problems: Problems) -> None:
        self._problems = problems
        self._buffer = Buffer(node=node)
        self._listener = TransformListener(self._buffer, node)

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()

    def transform(self, frame_id: str, header: Header, timeout_s: float) -> RigidTransform | None:
        """From a picture's frame to another one, at the time of the picture.

        Args:
            frame_id: where to.
            header: of the picture.
            timeout_s: how long to wait for it [s].

        Returns:
            The transform; None where there is none, which is reported: people at a wrong place
            would be worse than none.
        """
        try:
            found = self._buffer.lookup_transform(
                frame_id,
                header.frame_id,
                Time(seconds=header.sec, nanoseconds=header.nanosec),
                Duration(seconds=timeout_s),
            )
        except TransformException as error:
            reason = " ".join(str(error).split())
            self._problems.report(
                "navigation", f"no transform from {header.frame_id} to {frame_id}: {reason}"
            )
            return None
        self._problems.solved("navigation")
        q, t = found.transform.rotation, found.transform.translation
        R = Rotation.from_quat((q.x, q.y, q.z, q.w)).as_matrix()
        return RigidTransform(frame_id, R, np.array((t.x, t.y, t.z)))
