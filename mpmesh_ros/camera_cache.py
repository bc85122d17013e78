"""camera_cache: the camera as its camera_info messages say it, kept from picture to picture.

In   messages with the fields of sensor_msgs/CameraInfo, as rarely as they may come
Out  the Camera of a picture; what is wrong is one line
"""

from __future__ import annotations

from typing import Any

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError
from mpmesh_core.sources.messages import camera_from_message


class CameraCache:
    """Keeps the last usable camera.

    Args:
        topic: of the camera_info, for messages to the user.
        rectified: pictures are rectified ones, so P counts.
        fixed: a known camera, which no message changes.
        fov: field of view on the longer side for as long as no camera is known [degree]; None has
            pictures wait for camera_info.
    """

    def __init__(
        self,
        topic: str,
        rectified: bool = False,
        fixed: Camera | None = None,
        fov: float | None = None,
    ) -> None:
        self._topic, self._rectified, self._fixed, self._fov = topic, rectified, fixed, fov
        self._fields: tuple[Any, ...] | None = None
        self._camera: Camera | None = fixed
        self.problem: str | None = None  # with the last message
        self.changes = 0  # usable cameras after the first one

    @property
    def fixed(self) -> bool:
        """Whether no message changes the camera."""
        return self._fixed is not None

    def update(self, info: Any) -> None:
        """Take a message; one like the last costs next to nothing."""
        fields = _fields(info)
        if self._fixed is not None or fields == self._fields:
            return
        self._fields = fields
        try:
            camera = camera_from_message(info, self._rectified)
        except InputError as error:
            self.problem = f"{self._topic}: {error}"
            return
        self.problem = None
        self.changes += self._camera is not None
        self._camera = camera

    def camera(self, width: int, height: int) -> Camera:
        """The camera of a picture of this size [px].

        Raises:
            InputError: it isn't known, or not for this size.
        """
        camera = self._camera
        if camera is None and self._fov is not None:
            return Camera.from_fov(width, height, self._fov)
        if camera is None:
            raise InputError(
                self.problem
                or f"{self._topic}: no camera_info yet, so pictures are left out; publish it, or "
                "set camera_file or fov_degrees"
            )
        if (camera.width, camera.height) != (width, height):
            raise InputError(
                f"{self._topic} describes pictures of {camera.width}x{camera.height}, they are "
                f"{width}x{height}; correct size, binning or roi there"
            )
        return camera


def info_topic(image_topic: str) -> str:
    """The camera_info that belongs to an image topic by the rules of image_transport."""
    return f"{image_topic.rsplit('/', 1)[0]}/camera_info"


def is_rectified(image_topic: str, rectification: str) -> bool:
    """Whether pictures of a topic are rectified: as set, or for `auto` as its name says."""
    if rectification == "auto":
        return image_topic.rsplit("/", 1)[-1].startswith("image_rect")
    return rectification == "rectified"


def _fields(info: Any) -> tuple[Any, ...]:
    """All that matters of a message, to compare it with the next."""
    roi = info.roi
    return (
        info.width, info.height, info.distortion_model, tuple(info.d), tuple(info.k), tuple(info.p),
        info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height,
    )  # fmt: skip
