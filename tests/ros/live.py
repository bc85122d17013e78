"""What tests of the live node share: the node as a process of its own, and a camera that talks.

Every node runs in a ROS domain of its own, so that tests disturb neither one another nor a robot.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from mpmesh_core.camera import Camera
from mpmesh_ros.picture_source import camera_info_message, image_message

_DOMAINS = itertools.count(os.getpid() % 40)
RUN_NODE = "import sys; from mpmesh_ros.node import main; sys.exit(main())"
RELIABILITY = "qos_overrides./camera/image_raw.subscription.reliability"
START_S, RESULT_S = 60.0, 30.0  # a busy machine is slow


class NodeProcess:
    """The node, started with these parameters.

    Args:
        log: file that gets what it says.
        remap: names to names.
        parameters: names to values as YAML has them.
    """

    def __init__(
        self, log: Path, domain: int, remap: dict[str, str] | None = None, **parameters: Any
    ) -> None:
        self.log = log
        remap = {"image": "/camera/image_raw", **(remap or {})}
        arguments = [part for name, to in remap.items() for part in ("-r", f"{name}:={to}")]
        # a busy machine neither drops pictures as old nor loses them on the way
        patient: dict[str, Any] = {"max_image_age_s": 0.0, RELIABILITY: "reliable"}
        for name, value in {**patient, **parameters}.items():
            arguments += ["-p", f"{name}:={value}"]
        self.environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_PYTHON_CHECK_FIELDS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", RUN_NODE, "--ros-args", *arguments],
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            env=self.environment,
        )

    @property
    def text(self) -> str:
        """All that it said."""
        return self.log.read_text()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


class Observer:
    """A camera, and an ear on the node's topics, in one ROS domain."""

    def __init__(self, reliable: bool = True) -> None:
        self.domain = 20 + next(_DOMAINS) % 80
        self._context = Context()
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node = rclpy.create_node("observer", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}
        self._stamp = 1_700_000_000_000_000_000
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=1, reliability=reliability)
        self.images = self.node.create_publisher(Image, "/camera/image_raw", qos)
        self.infos = self.node.create_publisher(CameraInfo, "/camera/camera_info", qos)

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def add(self, node: Node) -> None:
        """Have another node of this process work, too."""
        self._executor.add_node(node)

    def listen(
        self, kind: Any, topic: str, qos: QoSProfile | int = 10, raw: bool = False
    ) -> list[Any]:
        """A list that grows with the topic's messages."""
        heard = self.heard.setdefault(topic, [])
        self.node.create_subscription(kind, topic, heard.append, qos, raw=raw)
        return heard

    def until(self, condition: Callable[[], Any], seconds: float = RESULT_S) -> None:
        """Listen until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it didn't happen in time"
            self._executor.spin_once(timeout_sec=0.05)

    def rest(self, seconds: float) -> None:
        """Listen for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def ready(self) -> None:
        """Wait until the node listens."""
        self.until(lambda: self.images.get_subscription_count() > 0, START_S)
        self.until(lambda: self.infos.get_subscription_count() > 0)

    def header(self, step_s: float = 0.2) -> Header:
        """The next picture's header; a negative step goes back in time."""
        self._stamp += round(1e9 * step_s)
        return Header(stamp=Time(nanoseconds=self._stamp).to_msg(), frame_id="camera_optical_frame")

    def show(
        self,
        image: np.ndarray,
        camera: Camera | None = None,
        step_s: float = 0.2,
        stamp: Time | None = None,
        **fields: Any,
    ) -> Header:
        """Publish a picture, its camera before it if given; other `fields` of the message count."""
        header = self.header(step_s)
        if stamp is not None:
            header.stamp = stamp.to_msg()
        if camera is not None:
            self.infos.publish(camera_info_message(header, camera))
            self.rest(0.1)
        message = image_message(header, image)
        for name, value in fields.items():
            setattr(message, name, value)
        self.images.publish(message)
        return header

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        return future.result()


def set_parameter(see: Observer, name: str, value: bool | int | float | str) -> Any:
    """Set a parameter of the node; its SetParametersResult."""
    kinds = {
        bool: ("bool_value", ParameterType.PARAMETER_BOOL),
        int: ("integer_value", ParameterType.PARAMETER_INTEGER),
        str: ("string_value", ParameterType.PARAMETER_STRING),
        float: ("double_value", ParameterType.PARAMETER_DOUBLE),
    }
    field, kind = kinds[type(value)]
    parameter = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
    request = SetParameters.Request(parameters=[parameter])
    return see.call(SetParameters, "/mpmesh/set_parameters", request).results[0]
