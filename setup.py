"""What pyproject.toml cannot say: msg/ is shipped inside the library, for bags without ROS."""

from setuptools import find_packages, setup

MESSAGES = "mpmesh_core.messages.definitions.mpmesh_ros"

setup(
    packages=[*find_packages(include=["mpmesh_core*"]), MESSAGES],
    package_dir={MESSAGES: "msg"},
)
