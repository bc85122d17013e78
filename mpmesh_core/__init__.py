"""MPMesh: the people around a robot as metric 3D bodies, from one RGB camera."""

__version__ = "0.1.0"
