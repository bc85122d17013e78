"""The node on a robot's camera.

Example: ros2 launch mpmesh_ros mpmesh.launch.py image:=/camera/color/image_raw
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare
from launch_ros.utilities import prefix_namespace

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

DEFAULT_PARAMETERS = PathJoinSubstitution([FindPackageShare("mpmesh_ros"), "config", "mpmesh.yaml"])
ARGUMENTS = {
    "image": ("/camera/image_raw", "image topic, without its transport"),
    "camera_info": ("", "camera_info topic; empty: the one beside the image"),
    "depth": ("", "depth image aligned to the image; empty: none"),
    "image_transport": ("raw", "raw or compressed"),
    "backend": ("auto", "what runs the networks: auto, tensorrt, torch, onnxruntime or openvino"),
    "navigation_frame": ("", "frame of /people, such as map or odom; empty: the camera's"),
    "people": ("/people", "people_msgs topic for social layers"),
    "frame_prefix": ("", "before names of frames and people: one for each of several cameras"),
    "namespace": ("", "namespace of the node"),
    "log_level": ("info", "debug, info, warn or error"),
    "use_sim_time": ("false", "follow /clock, for bags played with --clock"),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, then the node."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    parameters = DeclareLaunchArgument(
        "params_file", default_value=DEFAULT_PARAMETERS, description="parameters of the node"
    )
    return LaunchDescription([*arguments, parameters, OpaqueFunction(function=_node)])


def _parameters(context: LaunchContext) -> dict[str, bool | str]:
    """Those that an argument sets."""
    chosen = context.launch_configurations
    parameters: dict[str, bool | str] = {
        name: chosen[name]
        for name in ("image_transport", "backend", "navigation_frame", "frame_prefix")
        if chosen[name] != ARGUMENTS[name][0]  # else the file's counts
    }
    if chosen["depth"]:
        parameters["use_depth"] = True
    if IfCondition(chosen["use_sim_time"]).evaluate(context):  # true, True or 1
        parameters["use_sim_time"] = True
    return parameters


def _params_file(context: LaunchContext) -> str:
    """The file of parameters; bash leaves a `~` behind `:=` as it is."""
    path = Path(context.launch_configurations["params_file"]).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"params_file {path} isn't a file")
    return str(path)


def _logger(context: LaunchContext) -> str:
    """The node's logger is called after its namespace, too, with dots."""
    chosen = context.launch_configurations
    space = prefix_namespace(chosen.get("ros_namespace"), chosen["namespace"]) or ""
    return ".".join([*space.strip("/").split("/"), "mpmesh"]).lstrip(".")


def _node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    chosen, parameters = context.launch_configurations, _parameters(context)
    topics = {name: chosen[name] for name in ("image", "camera_info", "depth") if chosen[name]}
    topics["/people"] = chosen["people"]
    return [
        Node(
            package="mpmesh_ros",
            executable="mpmesh_node",
            name="mpmesh",
            namespace=chosen["namespace"],
            parameters=[_params_file(context), *([parameters] if parameters else [])],
            remappings=list(topics.items()),
            arguments=["--ros-args", "--log-level", f"{_logger(context)}:={chosen['log_level']}"],
            output="screen",
            emulate_tty=True,
            sigterm_timeout="15",  # to unload the networks takes a while on a busy machine
        )
    ]
