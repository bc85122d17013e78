"""estimator: from a picture message to its people, and the names of what can go wrong, without ROS.

In   Picture, CameraCache, Pipeline
Out  Estimate: result, decoded picture, camera; or None, and the problem is reported
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError, MPMeshError
from mpmesh_core.pipeline import Pipeline
from mpmesh_core.sources.frames import Header
from mpmesh_core.types import Array, FrameResult
from mpmesh_ros.camera_cache import CameraCache
from mpmesh_ros.pictures import Picture
from mpmesh_ros.problems import Problems


@dataclass(frozen=True)
class Estimate:
    """What one picture gave."""

    header: Header
    image: Array  # (H, W, 3) uint8 RGB
    camera: Camera
    result: FrameResult


class Estimator:
    """Runs the pipeline on pictures, one after the other.

    Args:
        pipeline: loaded and ready.
        cameras: of the pictures.
        problems: where what goes wrong is reported.
        inform: gets a line about what takes long.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        cameras: CameraCache,
        problems: Problems,
        inform: Callable[[str], None],
    ) -> None:
        self.pipeline, self.cameras, self._problems = pipeline, cameras, problems
        self._inform = inform
        self.preparing = False
        self._frames = 0
        self._prepared: set[tuple[int, int]] = set()  # sizes of pictures [px]
        self._forget = threading.Event()

    def forget_people(self) -> None:
        """Have the next picture begin with nobody known; may be called from any thread."""
        self._forget.set()

    def estimate(self, picture: Picture) -> Estimate | None:
        """The people of a picture; None where it cannot be used, which is reported."""
        if self._forget.is_set():
            self._forget.clear()
            self.pipeline.start()
        header = picture.header
        step = "image"
        try:
            image = picture.decoded()
            self._problems.solved(step)
            step = "camera_info"
            camera = self._camera(image)
            depth = self._depth(picture, image)
            step = "pipeline"
            self._prepare(camera)
            frame_id = header.frame_id
            result = self.pipeline(image, camera, picture.time, self._frames, frame_id, depth)
            self._problems.solved(step)
        except MPMeshError as error:
            self._problems.report(step, str(error))
            return None
        self._frames += 1
        return Estimate(header, image, camera, result)

    def _prepare(self, camera: Camera) -> None:
        """Record graphs, or compile, when a size is new, not when one person more is there.

        Cameras that zoom or focus give new intrinsics with every picture: those wait for nothing.
        """
        size = camera.width, camera.height
        if size in self._prepared or not self.pipeline.prepares:
            return
        pictures = f"pictures of {camera.width}x{camera.height}"
        self._inform(f"preparing for {pictures}, which may take a while")
        began = time.monotonic()
        self.preparing = True
        try:
            self.pipeline.prepare(camera)
        finally:
            self.preparing = False
        self._prepared.add(size)
        self._inform(f"prepared for {pictures} in {time.monotonic() - began:.1f} s")

    def _camera(self, image: Array) -> Camera:
        """The picture's camera; that the last camera_info is unusable is no reason to stop."""
        height, width = image.shape[:2]
        camera = self.cameras.camera(width, height)
        if self.cameras.problem is None:
            self._problems.solved("camera_info")
        else:
            self._problems.report("camera_info", f"{self.cameras.problem}; the last good one stays")
        return camera

    def _depth(self, picture: Picture, image: Array) -> Array | None:
        """The picture's depth image; without a usable one, distances come from people's size."""
        try:
            depth = picture.decoded_depth()
        except InputError as error:
            self._problems.report("depth", str(error))
            return None
        if depth is not None and depth.shape != image.shape[:2]:
            (height, width), (rows, columns) = depth.shape, image.shape[:2]
            text = f"depth images are {width}x{height}, pictures {columns}x{rows}: align them"
            self._problems.report("depth", text)
            return None
        if depth is not None:
            self._problems.solved("depth")
        return depth
