"""The live node under a camera: age of its results, frames left out, memory over time.

Run with ROS 2 sourced and this package built:
    python benchmarks/ros_node.py [--rate 30] [--seconds 600] [--listen people mesh_markers]
A camera in this process shows the rendered clip, stamped with the present; the node is a process of
its own. No result may be older than two frame times and one inference, which is the time since the
result before. Where the camera is slower than the pipeline, no picture may be left out.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rosidl_runtime_py.utilities import get_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from mpmesh_core.messages import OUTPUTS
from mpmesh_core.training.scene import Scene
from mpmesh_core.training.synthetic.demo_clip import demo_clip
from mpmesh_ros.picture_source import camera_info_message, image_message

WARM_UP_S = 5.0
RUN_NODE = "import sys; from mpmesh_ros.node import main; sys.exit(main())"


class Camera:
    """Shows scenes at a rate, and hears the node's people."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.node = rclpy.create_node("camera")
        qos = QoSProfile(depth=1)
        self.images = self.node.create_publisher(Image, "/camera/image_raw", qos)
        self._infos = self.node.create_publisher(CameraInfo, "/camera/camera_info", qos)
        self.shown: list[int] = []  # stamps [ns]
        self.answers: dict[int, int] = {}  # stamp of the picture: time of its result [ns]
        kind = get_message("mpmesh_ros/msg/SmplPersonArray")
        self.node.create_subscription(kind, "/mpmesh/people", self._on_people, 10)

    def show(self, scene: Scene) -> None:
        """Publish a picture, stamped with the present."""
        stamp = self.node.get_clock().now()
        header = Header(stamp=stamp.to_msg(), frame_id="camera_optical_frame")
        self._infos.publish(camera_info_message(header, scene.camera))
        self.images.publish(image_message(header, scene.image))
        self.shown.append(stamp.nanoseconds)

    def _on_people(self, message: Any) -> None:
        stamp = message.header.stamp
        now = self.node.get_clock().now().nanoseconds
        # When pictures end, the last one's stamp comes again, with nobody.
        self.answers.setdefault(1_000_000_000 * stamp.sec + stamp.nanosec, now)


def resident_mb(process: int) -> float:
    """Memory of a process [MB]."""
    with open(f"/proc/{process}/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def listen(names: list[str]) -> None:
    """Subscribe to these outputs too, in another process, so that the node has to make them."""
    node = rclpy.create_node("listener")
    for output in OUTPUTS:
        if output.name in names:
            topic = output.topic.replace("~/", "/mpmesh/")
            node.create_subscription(get_message(output.type), topic, len, 1, raw=True)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


def run(camera: Camera, scenes: list[Scene], seconds: float, node: int) -> dict[str, Any]:
    """Show the scenes over and over for a while.

    Returns:
        Figures.
    """
    memory: list[tuple[float, float]] = []  # time since the start [s], [MB]
    start = due = time.monotonic()
    for scene in itertools.cycle(scenes):
        time.sleep(max(0.0, due - time.monotonic()))
        elapsed = time.monotonic() - start
        if elapsed > seconds + WARM_UP_S:
            break
        due = max(due + 1 / camera.rate, time.monotonic())
        camera.show(scene)
        if not memory or elapsed - memory[-1][0] >= 1.0:
            memory.append((elapsed, resident_mb(node)))
    time.sleep(2.0)
    return figures(camera, memory, start)


def figures(camera: Camera, memory: list[tuple[float, float]], start: float) -> dict[str, Any]:
    """Ages [ms], frames and memory, without the first seconds."""
    begin = camera.shown[0] + round(1e9 * WARM_UP_S)
    shown = [stamp for stamp in camera.shown if stamp >= begin]
    answers = [answer for answer in camera.answers.items() if answer[0] >= begin]
    stamps, times = np.array(answers, np.int64).T
    ages = 1e-6 * (times - stamps)[1:]
    frame_ms = 1e-6 * np.diff(shown).max()
    inference = 1e-6 * np.diff(times)
    bound = 2 * frame_times(np.array(camera.shown), stamps[1:], times[1:]) + inference
    used = np.array([row for row in memory if row[0] > WARM_UP_S])
    half = len(used) // 2
    return {
        "camera [Hz]": round(1e9 * (len(shown) - 1) / (shown[-1] - shown[0]), 2),
        "longest frame time [ms]": round(float(frame_ms), 1),
        "results [Hz]": round(1e9 * (len(times) - 1) / float(times[-1] - times[0]), 2),
        "pictures": len(shown),
        "results": len(stamps),
        "age p50, p95, max [ms]": [round(float(v), 1) for v in np.quantile(ages, (0.5, 0.95, 1))],
        "older than two frames and one inference": int((ages > bound).sum()),
        "largest excess [ms]": round(float((ages - bound).max()), 1),
        "memory first, last [MB]": [round(float(used[0, 1]), 1), round(float(used[-1, 1]), 1)],
        "memory growth, second half [MB/min]": round(
            float(60 * np.polyfit(used[half:, 0], used[half:, 1], 1)[0]), 3
        ),
    }


def frame_times(shown: np.ndarray, stamps: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Longest time between two pictures while each result was on its way [ms].

    Args:
        shown: (P,) when pictures were shown [ns].
        stamps: (R,) of the pictures of the results [ns].
        times: (R,) of the results [ns].
    """
    first = np.searchsorted(shown, stamps)
    last = np.searchsorted(shown, times, side="right")
    gaps = np.diff(shown)
    return np.array([1e-6 * gaps[max(a - 1, 0) : b].max() for a, b in zip(first, last)])


def main() -> None:
    """Run and print figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=30.0, help="of the camera [Hz]")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--listen", nargs="*", default=[], help="outputs to subscribe to, too")
    arguments = parser.parse_args()
    if os.environ.get("MPMESH_LISTENER"):
        rclpy.init()
        listen(arguments.listen)
        return
    command = [sys.executable, "-c", RUN_NODE, "--ros-args", "-r", "image:=/camera/image_raw"]
    node = subprocess.Popen(command)
    listener = None
    if arguments.listen:
        environment = {**os.environ, "MPMESH_LISTENER": "1"}
        listener = subprocess.Popen([sys.executable, *sys.argv], env=environment)
    scenes = list(demo_clip(frames=60))
    rclpy.init()
    camera = Camera(arguments.rate)
    executor = SingleThreadedExecutor()
    executor.add_node(camera.node)
    threading.Thread(target=executor.spin, daemon=True).start()
    while camera.images.get_subscription_count() == 0:
        time.sleep(0.1)
    found = run(camera, scenes, arguments.seconds, node.pid)
    for process in (node, listener):
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
