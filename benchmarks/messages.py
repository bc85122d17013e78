"""Cost of every output's message on this machine, and whether the mesh markers' bytes are right.

Run: python benchmarks/messages.py [--people 10] [--rounds 50] [--types rosbags]
Times are to build a message and to send it: to serialise it, or with `--types rclpy` (ROS 2 sourced
and this package built) to publish it to a subscription. The overlay, whose time is drawing and
JPEG, is left out; so is posing the meshes, which the line does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import roma
import torch

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.messages import OUTPUTS, MessageBuilder, MessageFrame, MessageTypes
from mpmesh_core.messages.geometry import points_message
from mpmesh_core.messages.markers import MarkerMaker
from mpmesh_core.messages.mesh_markers import mesh_marker
from mpmesh_core.messages.rosbags_types import RosbagsTypes
from mpmesh_core.sources.frames import Header
from mpmesh_core.types import FrameResult, Person


def made_up_people(body: BodyModel, camera: Camera, count: int) -> list[Person]:
    """Tracked people in random poses, 4 m away and farther, with meshes."""
    generator = torch.Generator().manual_seed(0)
    rotvecs = 0.3 * torch.randn(count, 24, 3, generator=generator)
    transl = torch.randn(count, 3, generator=generator) + torch.tensor([0.0, 0.0, 6.0])
    betas = torch.randn(count, 10, generator=generator)
    posed = body(roma.rotvec_to_rotmat(rotvecs), betas, transl)
    joints, vertices = posed.joints.numpy(), posed.vertices.numpy()
    return [
        Person(
            score=0.9,
            bbox=np.array([100, 50, 200, 400], np.float32),
            global_orient=rotvecs[i, 0].numpy(),
            body_pose=rotvecs[i, 1:].reshape(-1).numpy(),
            betas=betas[i].numpy(),
            transl=transl[i].numpy(),
            joints=joints[i],
            joints_2d=camera.project(joints[i]),
            joint_confidence=np.ones(24, np.float32),
            coco_2d=np.zeros((17, 2), np.float32),
            h36m=np.zeros((17, 3), np.float32),
            position=joints[i, 0],
            position_covariance=np.diag([0.01, 0.01, 0.09]),
            vertices=vertices[i],
            track_id=i,
            state="tracked",
            velocity=np.array([0.5, 0.0, -0.5]),
        )
        for i in range(count)
    ]


def median_ms(action: Callable[[], object], rounds: int) -> float:
    """Median time of an action [ms]."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def plain_mesh_markers(types: MessageTypes, frame: MessageFrame) -> bytes:
    """The mesh markers with one message object a point."""
    maker = MarkerMaker(types, frame.header)
    corners = frame.body.faces.numpy().reshape(-1)
    markers = [
        mesh_marker(maker, frame, i, points_message(types, vertices[corners]))
        for i, vertices in enumerate(frame.vertices)
    ]
    return types.serialize(maker.array(markers))


Send = Callable[[str, Any], object]  # of an output's name and its message, or bytes that are one


def with_rosbags() -> tuple[MessageTypes, Send]:
    """Message classes of the rosbags package; to send is to serialise."""
    types = RosbagsTypes()
    return types, lambda _, m: m if isinstance(m, bytes) else types.serialize(m)


def with_rclpy() -> tuple[MessageTypes, Send]:
    """Message classes of the ROS that is sourced; to send is to publish to one subscription."""
    import rclpy
    from rosidl_runtime_py.utilities import get_message

    from mpmesh_ros.memory import keep_memory
    from mpmesh_ros.message_types import RclpyTypes

    keep_memory()
    rclpy.init()
    node = rclpy.create_node("mpmesh_benchmark")
    publishers = {}
    for output in OUTPUTS:
        cls = get_message(output.type)
        publishers[output.name] = node.create_publisher(cls, f"/benchmark/{output.name}", 1)
        node.create_subscription(cls, f"/benchmark/{output.name}", print, 1, raw=True)
    return RclpyTypes(), lambda name, message: publishers[name].publish(message)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--types", choices=["rosbags", "rclpy"], default="rosbags")
    arguments = parser.parse_args()
    count, rounds = arguments.people, arguments.rounds
    types, send = with_rclpy() if arguments.types == "rclpy" else with_rosbags()
    body, camera = load_body("open"), Camera.from_fov(640, 480)
    people = made_up_people(body, camera, count)
    result = FrameResult(0, 0.0, "", 640, 480, camera.K, camera.D, people)
    header = Header(1_700_000_000, 123_456_789, "camera_optical_frame")
    builder = MessageBuilder(types)
    frame = MessageFrame(header, result, body)
    names = [o.name for o in OUTPUTS if not o.latched and builder.build(o.name, frame) is not None]

    def sent(*outputs: str) -> None:
        fresh = MessageFrame(header, result, body)
        for name in outputs:
            send(name, builder.build(name, fresh))

    print(f"{arguments.types}, {count} people, median of {rounds}, built and sent [ms]")
    for name in names:
        print(f"{name:20}{median_ms(lambda name=name: sent(name), rounds):8.3f}")
    meshes = median_ms(lambda: sent("mesh_markers"), rounds) / count
    rest = median_ms(lambda: sent(*(n for n in names if n != "mesh_markers")), rounds)
    print(f"mesh markers: {meshes:.3f} a person (bar 1.5)")
    print(f"everything else together: {rest:.3f} (bar 3)")
    same = builder.build("mesh_markers", frame) == plain_mesh_markers(types, frame)
    print(f"mesh markers byte by byte those of the plain way: {same}")


if __name__ == "__main__":
    main()
