"""Draw what RViz shows, from the messages of a running node: docs/images/rviz.jpg.

Run beside `ros2 launch mpmesh_ros demo.launch.py rviz:=false`, with the same ROS sourced:
    python docs/rviz_picture.py docs/images/rviz.jpg
Left the triangle lists of ~/mesh_markers, right the skeletons, names, velocities and ellipsoids of
~/markers, both seen from behind and above the camera.
"""

from __future__ import annotations

import struct
import sys
import time
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from scipy.spatial.transform import Rotation
from visualization_msgs.msg import Marker, MarkerArray

from mpmesh_core.camera import Camera
from mpmesh_core.rasterizer import Meshes, rasterize_meshes, vertex_normals

Array = np.ndarray
SIZE = (720, 560)  # of each half [px]
BACKGROUND, LINES = (40, 42, 48), (92, 92, 96)
EYE, LOOK_AT = np.array([1.6, -2.0, -2.4]), np.array([0.1, 0.35, 4.0])  # [m, camera frame]
FLOOR = 1.25  # below the camera [m]
TILT = np.radians(3.2)  # of the demo's camera, downwards


class View:
    """A virtual camera that looks at the scene in the real camera's frame."""

    def __init__(self) -> None:
        forward = (LOOK_AT - EYE) / np.linalg.norm(LOOK_AT - EYE)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        self.R = np.stack([right, np.cross(forward, right), forward])
        self.camera = Camera.from_fov(*SIZE, 44.0)

    def seen(self, points: Array) -> Array:
        """(..., 3) [m] in the view's frame."""
        return (points - EYE) @ self.R.T

    def pixels(self, points: Array) -> Array:
        """(..., 2) whole pixels."""
        return np.rint(self.camera.project(self.seen(points))).astype(int)


Stamp = tuple[int, int]  # [s], [ns]


def heard(seconds: float = 40.0) -> tuple[MarkerArray, MarkerArray]:
    """Mesh markers and markers of the same picture, the clearest one."""
    rclpy.init()
    node = rclpy.create_node("rviz_picture")
    meshes: dict[Stamp, bytes] = {}  # as they come: to read a mesh takes a third of a second
    markers: dict[Stamp, MarkerArray] = {}

    def keep(data: bytes) -> None:
        if len(data) > 1000:
            meshes[struct.unpack_from("<iI", data, 8)] = data

    def keep_markers(message: MarkerArray) -> None:
        for marker in message.markers[:1]:
            markers[marker.header.stamp.sec, marker.header.stamp.nanosec] = message

    qos = qos_profile_sensor_data
    node.create_subscription(MarkerArray, "/mpmesh/mesh_markers", keep, qos, raw=True)
    node.create_subscription(MarkerArray, "/mpmesh/markers", keep_markers, qos)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    best = max(meshes.keys() & markers.keys(), key=lambda stamp: clarity(markers[stamp]))
    return deserialize_message(meshes[best], MarkerArray), markers[best]


def clarity(message: MarkerArray) -> tuple[int, float]:
    """How many people are seen rather than expected, and how sure their places are."""
    seen = [m for m in message.markers if m.ns == "skeleton" and m.color.a == 1.0]
    spread = sum(m.scale.x + m.scale.y + m.scale.z for m in message.markers if m.ns == "covariance")
    return len(seen), -spread


def points_of(marker: Marker) -> Array:
    """(P, 3) [m]."""
    return np.array([(p.x, p.y, p.z) for p in marker.points])


def colour_of(marker: Marker) -> Array:
    """RGB, 0 to 255."""
    return 255 * np.array([marker.color.r, marker.color.g, marker.color.b])


def empty(view: View) -> Array:
    """The floor, in metres."""
    picture = np.full((SIZE[1], SIZE[0], 3), BACKGROUND, np.uint8)
    level = Rotation.from_euler("x", TILT)
    for x in range(-4, 5):
        _line(picture, view, level.apply([[x, FLOOR, 0.5], [x, FLOOR, 9]]), LINES)
    for z in range(1, 10):
        _line(picture, view, level.apply([[-4, FLOOR, z], [4, FLOOR, z]]), LINES)
    for axis, colour in zip(0.5 * np.eye(3), ((230, 80, 70), (80, 200, 90), (80, 130, 240))):
        _line(picture, view, np.stack([np.zeros(3), axis]), colour, 2)
    return picture


def draw_meshes(picture: Array, view: View, message: MarkerArray) -> None:
    """Triangle lists with the colour of their marker, lit from the eye."""
    added = [m for m in message.markers if m.type == Marker.TRIANGLE_LIST and m.points]
    vertices = [view.seen(points_of(m)).astype(np.float32) for m in added]
    faces = [np.arange(len(v)).reshape(-1, 3) for v in vertices]
    buffers = rasterize_meshes(Meshes.join(vertices, faces), view.camera.K, SIZE)
    normals = np.concatenate([vertex_normals(v, f) for v, f in zip(vertices, faces)])
    shown = buffers.face >= 0
    light = 0.35 + 0.65 * np.abs(normals[3 * buffers.face[shown], 2])
    colours = np.stack([colour_of(m) for m in added])[buffers.mesh[shown]]
    picture[shown] = np.clip(colours * light[:, None], 0, 255)


def draw_markers(picture: Array, view: View, message: MarkerArray) -> None:
    """Lines, arrows, names and ellipsoids."""
    for marker in message.markers:
        colour = tuple(int(c) for c in colour_of(marker))
        if marker.action != Marker.ADD:
            continue
        if marker.type == Marker.SPHERE:
            _ellipsoid(picture, view, marker, colour)
        elif marker.type == Marker.LINE_LIST:
            for ends in points_of(marker).reshape(-1, 2, 3):
                _line(picture, view, ends, colour, 3)
        elif marker.type == Marker.ARROW:
            start, tip = view.pixels(points_of(marker))
            cv2.arrowedLine(picture, tuple(start), tuple(tip), (255, 255, 255), 2, cv2.LINE_AA)
        elif marker.type == Marker.TEXT_VIEW_FACING:
            place = view.pixels(_position(marker))
            cv2.putText(picture, marker.text, tuple(place), 0, 0.7, colour, 2, cv2.LINE_AA)


def _ellipsoid(picture: Array, view: View, marker: Marker, colour: Any) -> None:
    q = marker.pose.orientation
    turn = Rotation.from_quat((q.x, q.y, q.z, q.w))
    radii = 0.5 * np.array([marker.scale.x, marker.scale.y, marker.scale.z])
    unit = np.random.default_rng(0).normal(size=(400, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    surface = turn.apply(unit * radii) + _position(marker)
    outline = cv2.convexHull(view.pixels(surface).astype(np.int32))
    filled = picture.copy()
    cv2.fillConvexPoly(filled, outline, colour, cv2.LINE_AA)
    picture[:] = cv2.addWeighted(filled, marker.color.a, picture, 1 - marker.color.a, 0)


def _position(marker: Marker) -> Array:
    p = marker.pose.position
    return np.array([p.x, p.y, p.z])


def _line(picture: Array, view: View, ends: Array, colour: Any, width: int = 1) -> None:
    start, end = view.pixels(np.asarray(ends, np.float64))
    cv2.line(picture, tuple(start), tuple(end), colour, width, cv2.LINE_AA)


def main(path: str) -> None:
    """Listen, draw, write."""
    meshes, markers = heard()
    view = View()
    left, right = empty(view), empty(view)
    draw_meshes(left, view, meshes)
    draw_markers(right, view, markers)
    picture = np.concatenate([left, right], axis=1)
    cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main(sys.argv[1])
