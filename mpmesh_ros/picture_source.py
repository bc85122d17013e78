"""picture_source: pictures without a camera: a film, a webcam, a bag or the rendered clip.

Publishes `image` (rgb8) and `camera_info` at the source's own rate, stamped with the present; for
demonstrations and tests of the node.
"""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Iterator
from itertools import takewhile

import numpy as np
import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError, MPMeshError, UsageError
from mpmesh_core.sources import BadFrame, Frame, Source, open_source
from mpmesh_ros.signals import start

CLIP = "clip"
CLIP_SECONDS = 8.0
_STILL_RATE = 1.0  # of pictures that are no sequence [Hz]


class PictureSource(Node):
    """Publishes a source's pictures.

    Raises:
        UsageError: a rate that isn't possible.
    """

    def __init__(self) -> None:
        super().__init__("picture_source")
        number = ParameterDescriptor(dynamic_typing=True)  # a webcam's, which YAML takes for one
        self._source = str(self.declare_parameter("source", CLIP, number).value)
        self._topic: str = self.declare_parameter("topic", "").value  # of a bag that has several
        self._loop: bool = self.declare_parameter("loop", True).value
        self._rate: float = self.declare_parameter("rate", 0.0).value  # [Hz]; 0: the source's
        if self._rate < 0:
            raise UsageError(f"rate {self._rate:g}: must be 0 (the source's own) or more")
        self._frame_id: str = self.declare_parameter("frame_id", "camera_optical_frame").value
        self._fov: float = self.declare_parameter("fov_degrees", 60.0).value
        self._images = self.create_publisher(Image, "image", QoSProfile(depth=1))
        self._infos = self.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=1))

    def play(self, ended: threading.Event) -> None:
        """Publish until the end, or until the event is set.

        Raises:
            MPMeshError: the source cannot be read.
        """
        source = self._opened(ended)
        if ended.is_set():
            return
        period = 1.0 / (self._rate or source.fps or _STILL_RATE)
        due = time.monotonic()
        for frame in self._frames(source):
            if isinstance(frame, BadFrame):
                self.get_logger().warning(frame.reason)
                if ended.is_set():
                    return
                continue
            if ended.wait(max(0.0, due - time.monotonic())):
                return
            due = max(due + period, time.monotonic())
            self._publish(frame)

    def _opened(self, ended: threading.Event) -> Source:
        if self._source != CLIP:
            return open_source(self._source, self._topic or None)
        from mpmesh_core.training.synthetic.clip_source import ClipSource
        from mpmesh_core.training.synthetic.demo_clip import FPS, demo_clip

        self.get_logger().info("rendering a clip of people, which takes half a minute")
        scenes = demo_clip(frames=round(CLIP_SECONDS * FPS))
        return ClipSource(list(takewhile(lambda _: not ended.is_set(), scenes)), FPS)

    def _frames(self, source: Source) -> Iterator[Frame | BadFrame]:
        """The source's frames, again and again where that is wanted.

        Raises:
            InputError: a pass without a picture, which would be repeated for ever.
        """
        while True:
            shown = False
            for frame in source:
                shown |= isinstance(frame, Frame)
                yield frame
            if not shown:
                raise InputError(f"source {self._source} has no picture that can be used")
            if not self._loop or source.kind == "camera":
                return

    def _publish(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        camera = frame.camera or Camera.from_fov(width, height, self._fov)
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        self._infos.publish(camera_info_message(header, camera))
        self._images.publish(image_message(header, frame.image))


def image_message(header: Header, image: np.ndarray) -> Image:
    """sensor_msgs/Image, rgb8, of (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array("B", np.ascontiguousarray(image).tobytes())
    return message


def camera_info_message(header: Header, camera: Camera) -> CameraInfo:
    """sensor_msgs/CameraInfo of a camera, its picture whole and not binned."""
    return CameraInfo(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob" if camera.model == "none" else camera.model,
        d=camera.D.tolist() or [0.0] * 5,
        k=camera.K.reshape(9),
        r=np.eye(3).reshape(9),
        p=np.hstack([camera.K, np.zeros((3, 1))]).reshape(12),
    )


def main(args: list[str] | None = None) -> int:
    """Publish until the end or a signal.

    Returns:
        Exit code: 0, 1 where the source cannot be read, 2 for wrong arguments.
    """
    try:
        node, ended = start(PictureSource, args)
    except MPMeshError as error:
        print(f"picture_source: {error}", file=sys.stderr)
        return error.exit_code
    code = 0
    executor = SingleThreadedExecutor()
    executor.add_node(node)  # for parameter services
    spinner = threading.Thread(target=executor.spin, daemon=True)
    spinner.start()
    try:
        node.play(ended)
    except MPMeshError as error:
        print(f"picture_source: {error}", file=sys.stderr)
        code = 1
    executor.shutdown()
    spinner.join()
    node.destroy_node()
    rclpy.shutdown()
    return code
