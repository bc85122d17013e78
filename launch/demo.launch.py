"""People in RViz, also on a machine without a camera: pictures, the node, RViz.

Examples:
    ros2 launch mpmesh_ros demo.launch.py
    ros2 launch mpmesh_ros demo.launch.py source:=0
    ros2 launch mpmesh_ros demo.launch.py source:=film.mp4 rviz:=false
    ros2 launch mpmesh_ros demo.launch.py source:=topics image:=/camera/color/image_raw
"""

from __future__ import annotations

import math

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

SHARE = FindPackageShare("mpmesh_ros")
IMAGE = "/camera/image_raw"
CAMERA_FRAME, ROBOT_FRAME = "camera_optical_frame", "base_link"
CAMERA_HEIGHT, CAMERA_TILT = 1.25, math.radians(3.2)  # of the clip [m], downwards [rad]
ARGUMENTS = {
    "source": (
        "clip",
        "clip (rendered people), a video, a bag, a picture folder, the number of a webcam, or "
        "topics of a camera that is running",
    ),
    "topic": ("", "image topic of a bag that has several"),
    "image": (IMAGE, "image topic, for source:=topics"),
    "camera_info": ("", "camera_info topic, for source:=topics; empty: the one beside the image"),
    "loop": ("true", "begin again at the end"),
    "rviz": ("true", "show everything in RViz"),
    "fixed_frame": (ROBOT_FRAME, "frame that RViz shows; for source:=topics one of yours"),
    "backend": ("auto", "what runs the networks: auto, tensorrt, torch, onnxruntime or openvino"),
    "nav": ("false", "publish /people in the robot's frame, and run Nav2's collision monitor"),
    "log_level": ("info", "debug, info, warn or error"),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, then what they ask for."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_actions)])


def _actions(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    chosen = context.launch_configurations
    live, nav = chosen["source"] == "topics", _is_true(context, "nav")
    actions = [] if live else [_pictures(_source_parameters(context)), _camera_transform()]
    actions.append(_people(chosen, live, ROBOT_FRAME if nav else ""))
    if _is_true(context, "rviz"):
        actions.append(_rviz(chosen["fixed_frame"], _camera_remapping(context)))
    return [*actions, *(_navigation() if nav else [])]


def _is_true(context: LaunchContext, name: str) -> bool:
    """Whether an argument is true, True or 1; what is neither that nor false is refused."""
    return IfCondition(context.launch_configurations[name]).evaluate(context)


def _source_parameters(context: LaunchContext) -> dict[str, bool | str]:
    chosen, loop = context.launch_configurations, _is_true(context, "loop")
    return {
        "source": chosen["source"],
        "topic": chosen["topic"],
        "loop": loop,
        "frame_id": CAMERA_FRAME,
    }


def _pictures(parameters: dict[str, bool | str]) -> Node:
    return Node(
        package="mpmesh_ros",
        executable="picture_source",
        parameters=[parameters],
        remappings=[("image", IMAGE), ("camera_info", "/camera/camera_info")],
        output="screen",
        emulate_tty=True,
        sigterm_timeout="15",  # to unload the networks takes a while on a busy machine
        on_exit=_without_pictures,
    )


def _without_pictures(event: ProcessExited, context: LaunchContext) -> list[Shutdown]:
    """A source that cannot be shown ends the demo; one that is over doesn't."""
    return [Shutdown(reason="there are no pictures")] if event.returncode else []


def _camera_transform() -> Node:
    """The camera looks ahead from its height, a little down: z forward, y down."""
    return Node(
        package="tf2_ros",
        executable="static_transform_publisher",
        arguments=[
            *("--z", str(CAMERA_HEIGHT), "--yaw", str(-math.pi / 2)),
            *("--roll", str(-math.pi / 2 - CAMERA_TILT)),
            *("--frame-id", ROBOT_FRAME, "--child-frame-id", CAMERA_FRAME),
        ],
    )


def _people(chosen: dict[str, str], live: bool, navigation_frame: str) -> IncludeLaunchDescription:
    arguments = {name: chosen[name] for name in ("backend", "log_level")}
    arguments["image"] = chosen["image"] if live else IMAGE
    arguments["camera_info"] = chosen["camera_info"] if live else ""
    arguments["navigation_frame"] = navigation_frame
    path = PathJoinSubstitution([SHARE, "launch", "mpmesh.launch.py"])
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path), launch_arguments=arguments.items()
    )


def _camera_remapping(context: LaunchContext) -> list[tuple[str, str]]:
    """RViz's configuration names one image topic, that of our own pictures."""
    chosen = context.launch_configurations
    return [(IMAGE, chosen["image"])] if chosen["source"] == "topics" else []


def _rviz(fixed_frame: str, remappings: list[tuple[str, str]]) -> LaunchDescriptionEntity:
    if not _installed("rviz2"):
        return LogInfo(
            msg="rviz2 isn't installed, so nothing is shown: apt install ros-$ROS_DISTRO-rviz2; "
            "rviz:=false silences this. People: ros2 topic echo /mpmesh/people"
        )
    config = PathJoinSubstitution([SHARE, "rviz", "mpmesh.rviz"])
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", config, "-f", fixed_frame],
        remappings=remappings,
    )


def _navigation() -> list[LaunchDescriptionEntity]:
    if not _installed("nav2_collision_monitor"):
        return [
            LogInfo(
                msg="nav2_collision_monitor isn't installed, so only /people is published: "
                "apt install ros-$ROS_DISTRO-nav2-collision-monitor"
            )
        ]
    config = PathJoinSubstitution([SHARE, "config", "nav2_people.yaml"])
    manager = {"autostart": True, "node_names": ["collision_monitor"]}
    return [
        Node(
            package="nav2_collision_monitor",
            executable="collision_monitor",
            parameters=[config],
            output="screen",
        ),
        Node(
            package="nav2_lifecycle_manager", executable="lifecycle_manager", parameters=[manager]
        ),
    ]


def _installed(package: str) -> bool:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True
