"""What is shipped beside the code fits it: RViz and Nav2 configurations, package.xml."""

import ast
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from mpmesh_core import __version__
from mpmesh_core.messages import OUTPUTS

ROOT = Path(__file__).parents[2]
TOPICS = {output.topic.replace("~/", "/mpmesh/") for output in OUTPUTS}
CAMERA = "/camera/image_raw"


class TestRviz:
    displays = yaml.safe_load((ROOT / "rviz/mpmesh.rviz").read_text())["Visualization Manager"][
        "Displays"
    ]

    def test_shows_what_the_node_publishes(self):
        shown = {d["Topic"]["Value"] for d in self.displays if "Topic" in d}
        assert shown - TOPICS == {CAMERA}
        assert {"/mpmesh/markers", "/mpmesh/mesh_markers"} <= shown

    def test_what_is_large_is_best_effort(self):
        policies = {
            d["Topic"]["Value"]: d["Topic"]["Reliability Policy"]
            for d in self.displays
            if "Topic" in d
        }
        assert policies["/mpmesh/mesh_markers"] == "Best Effort"
        assert policies["/mpmesh/points"] == "Best Effort"

    def test_namespaces_are_those_of_the_markers(self):
        named = {name for d in self.displays for name in d.get("Namespaces", {})}
        assert named == {"mesh", "skeleton", "name", "velocity", "covariance"}


class TestNav2:
    config = yaml.safe_load((ROOT / "config/nav2_people.yaml").read_text())

    def test_collision_monitor_listens_to_the_points(self):
        parameters = self.config["collision_monitor"]["ros__parameters"]
        assert parameters["people"]["topic"] in TOPICS
        assert set(parameters["polygons"]) <= set(parameters)
        assert parameters["observation_sources"] == ["people"]

    def test_the_layer_marks_and_forgets(self):
        layer = self.config["local_costmap"]["local_costmap"]["ros__parameters"]["people_layer"]
        assert layer["people"]["topic"] in TOPICS
        assert layer["people"]["marking"] and not layer["people"]["clearing"]
        assert 0 < layer["voxel_decay"] < 2


class TestPackage:
    package = ElementTree.parse(ROOT / "package.xml").getroot()

    def test_one_version(self):
        assert self.package.findtext("version") == __version__

    def test_messages_are_declared(self):
        assert self.package.findtext("member_of_group") == "rosidl_interface_packages"
        cmake = (ROOT / "CMakeLists.txt").read_text()
        for path in (ROOT / "msg").glob("*.msg"):
            assert f"msg/{path.name}" in cmake

    def test_what_the_node_imports_is_depended_on(self):
        known = {element.text for element in self.package if element.tag.endswith("depend")}
        soft = {"people_msgs", "hri_msgs", "mpmesh_ros", "mpmesh_core"}
        kinds = ("_msgs", "_srvs", "_interfaces", "_python", "_ros", "_updater")
        for path in [*(ROOT / "mpmesh_ros").glob("*.py"), *(ROOT / "launch").glob("*.py")]:
            for package in imported(path) - soft:
                if package.endswith(kinds) or package in ("rclpy", "launch"):
                    assert package in known, (path.name, package)


@pytest.mark.parametrize("path", sorted((ROOT / "launch").glob("*.py")), ids=lambda path: path.name)
def test_launch_files_import_only_what_ros_has(path):
    allowed = {"__future__", "math", "pathlib", "launch", "launch_ros", "ament_index_python"}
    assert imported(path) <= allowed


def imported(path):
    """Top-level packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
    return names
