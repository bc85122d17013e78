"""demo.launch.py shows people on a machine without a camera or RViz, and ends in peace."""

import os
import statistics
import time
import unittest

import pytest

pytest.importorskip("launch_testing", reason="ROS 2 isn't sourced")
pytest.importorskip("mpmesh_ros.msg", reason="mpmesh_ros isn't built; source its workspace")

import launch_testing.actions
import launch_testing.asserts
import launch_testing.markers
import rclpy
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from mpmesh_ros.msg import SmplPersonArray
from people_msgs.msg import People

from launch import LaunchDescription

os.environ["ROS_DOMAIN_ID"] = str(101 - os.getpid() % 10)
PATIENCE_S = 90.0


@pytest.mark.launch_test
@launch_testing.markers.keep_alive
def generate_test_description():
    path = PathJoinSubstitution([FindPackageShare("mpmesh_ros"), "launch", "demo.launch.py"])
    demo = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path),
        launch_arguments={"rviz": "true", "nav": "true", "log_level": "debug"}.items(),
    )
    return LaunchDescription([demo, launch_testing.actions.ReadyToTest()])


class TestDemo(unittest.TestCase):
    def test_people_are_seen(self):
        rclpy.init()
        node = rclpy.create_node("observer")
        people, walkers = [], []
        node.create_subscription(SmplPersonArray, "/mpmesh/people", people.append, 10)
        node.create_subscription(People, "/people", walkers.append, 10)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and not (walkers and people and people[-1].people):
            rclpy.spin_once(node, timeout_sec=0.2)
        node.destroy_node()
        rclpy.shutdown()
        self.assertGreaterEqual(len(people[-1].people), 2)
        self.assertEqual(people[-1].header.frame_id, "camera_optical_frame")
        self.assertEqual(walkers[-1].header.frame_id, "base_link")
        heights = [person.position.z for person in walkers[-1].people]
        self.assertLess(abs(statistics.median(heights) - 0.95), 0.5)  # pelvises above the floor


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_both_nodes_end_in_peace(self, proc_info):
        for name in ("mpmesh_node", "picture_source"):
            launch_testing.asserts.assertExitCodes(
                proc_info, process=name, allowable_exit_codes=[0]
            )
