"""navigation: the way from the camera to the navigation frame, through tf2."""

from __future__ import annotations

import time

import numpy as np
from rclpy.node import Node
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from tf2_ros import Buffer, TransformException, TransformListener

from mpmesh_core.messages.navigation import RigidTransform
from mpmesh_core.sources.frames import Header
from mpmesh_ros.problems import Problems

_POLL_S = 0.005


class NavigationFrame:
    """Looks transforms up; from another thread than the executor's, since it may wait.

    Listens to TF from `open` or the first question on: a robot's TF is work for a Python node.

    Args:
        node: the node.
        problems: where a missing transform is reported.
    """

    def __init__(self, node: Node, problems: Problems) -> None:
        self._node, self._problems = node, problems
        self._buffer = Buffer()
        self._listener: TransformListener | None = None
        self._newest = 0  # stamp of the last picture [ns]

    def open(self) -> None:
        """Begin to listen."""
        if self._listener is None:
            self._listener = TransformListener(self._buffer, self._node)

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
            self._listener = None

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
        self.open()
        if header.nanoseconds < self._newest:
            self._buffer.clear()  # a bag began again: tf2 takes nothing older than what it has
        self._newest = header.nanoseconds
        when = Time(seconds=header.sec, nanoseconds=header.nanosec)
        deadline = time.monotonic() + timeout_s  # tf2's own would never end while /clock rests
        while True:
            try:
                found = self._buffer.lookup_transform(frame_id, header.frame_id, when)
                break
            except TransformException as error:
                if time.monotonic() >= deadline:
                    way = f"no transform from {header.frame_id} to {frame_id}"
                    self._problems.report("navigation", f"{way}: {' '.join(str(error).split())}")
                    return None
            time.sleep(_POLL_S)
        self._problems.solved("navigation")
        q, t = found.transform.rotation, found.transform.translation
        R = Rotation.from_quat((q.x, q.y, q.z, q.w)).as_matrix()
        return RigidTransform(frame_id, R, np.array((t.x, t.y, t.z)))
