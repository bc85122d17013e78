"""mpmesh_ros: the ROS 2 layer of MPMesh."""

import pkgutil

# In a checkout this folder hides the installed package of the same name, which holds the messages.
__path__ = pkgutil.extend_path(__path__, __name__)
