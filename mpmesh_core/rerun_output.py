"""rerun_output: the run as a recording for the rerun viewer (`mpmesh run --rerun FILE`).

In   frames (RGB), their FrameResults, the camera and the body
Out  a .rrd file; entities
     world/camera                   pinhole, world/camera/image the picture
     world/people/<id>/mesh         the body, in the colour of the overlay
     world/people/<id>/skeleton     bones, world/people/<id>/joints
     world/people/<id>/velocity     where a second leads
     statistics/people, statistics/ms/<stage>
Timelines `frame` and `stamp`. The world is the camera optical frame (x right, y down, z forward).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.canvas import person_colour
from mpmesh_core.drawing import person_vertices
from mpmesh_core.errors import InputError, MissingPackageError, refusing
from mpmesh_core.joints import SMPL_PARENTS
from mpmesh_core.outputs import prepare_folder
from mpmesh_core.paths import expanded
from mpmesh_core.rasterizer import vertex_normals
from mpmesh_core.types import FrameResult, Person

Array = np.ndarray
_JPEG_QUALITY = 85
_BONES = tuple((parent, joint) for joint, parent in enumerate(SMPL_PARENTS) if parent >= 0)


def import_rerun() -> Any:
    """The rerun package.

    Raises:
        MissingPackageError: it isn't installed.
    """
    try:
        import rerun
    except ImportError:
        raise MissingPackageError(
            "the rerun recording needs the package rerun-sdk: pip install 'mpmesh[viewer]'"
        ) from None
    return rerun


class RerunWriter:
    """Writes a .rrd file, flushed as the run goes on.

    Args:
        path: the file; its folder is made where missing.
        body: the body that the results' parameters belong to.

    Raises:
        MissingPackageError: rerun-sdk isn't installed.
        InputError: the folder cannot be written.
    """

    def __init__(self, path: str | Path, body: BodyModel) -> None:
        self._rr = import_rerun()
        path = expanded(path)
        self.path = prepare_folder(path.parent, "--rerun") / path.name
        if path.is_dir():
            raise InputError(f"recording {path} cannot be written: it is a folder")
        self._body = body
        self._faces = body.faces.cpu().numpy().astype(np.uint32)
        self._shown: set[int] = set()
        self._seen_by: tuple[bytes, int, int] | None = None  # K and size of the last camera
        self._stream = self._rr.RecordingStream("mpmesh")
        self._stream.save(str(self.path), default_blueprint=_blueprint())
        self._stream.log("world", self._rr.ViewCoordinates.RDF, static=True)

    def write(self, image: Array, result: FrameResult, camera: Camera) -> None:
        """Record one frame.

        Args:
            image: (H, W, 3) uint8 RGB.
            result: its people.
            camera: the camera; a pinhole for the viewer, which knows no lens distortion.
        """
        rr, stream = self._rr, self._stream
        stream.set_time("frame", sequence=result.frame)
        stream.set_time("stamp", duration=result.stamp)
        seen_by = camera.K.tobytes(), camera.width, camera.height
        if seen_by != self._seen_by:  # photos may each have a camera of their own
            self._seen_by = seen_by
            pinhole = rr.Pinhole(
                image_from_camera=camera.K,
                resolution=[camera.width, camera.height],
                camera_xyz=rr.ViewCoordinates.RDF,
            )
            stream.log("world/camera", pinhole)
        stream.log("world/camera/image", _encoded(rr, image))
        people = [person for person in result.people if person.state != "lost"]
        numbers = [
            person.track_id if person.track_id >= 0 else index
            for index, person in enumerate(people)
        ]
        for number in self._shown - set(numbers):
            stream.log(f"world/people/{number}", rr.Clear(recursive=True))
        self._shown = set(numbers)
        meshes = person_vertices(self._body, people)
        for number, person, mesh in zip(numbers, people, meshes):
            self._write_person(number, person, mesh)
        stream.log("statistics/people", rr.Scalars(len(people)))
        for stage, ms in result.timings.items():
            stream.log(f"statistics/ms/{stage}", rr.Scalars(ms))

    def _write_person(self, number: int, person: Person, mesh: Array) -> None:
        rr, stream, colour = self._rr, self._stream, person_colour(number)
        entity = f"world/people/{number}"
        joints = np.asarray(person.joints)
        body = rr.Mesh3D(
            vertex_positions=mesh,
            triangle_indices=self._faces,
            vertex_normals=vertex_normals(mesh, self._faces),
            albedo_factor=[*colour, 255],
        )
        stream.log(f"{entity}/mesh", body)
        bones = [joints[list(bone)] for bone in _BONES]
        stream.log(f"{entity}/skeleton", rr.LineStrips3D(bones, colors=colour, radii=0.008))
        stream.log(f"{entity}/joints", rr.Points3D(joints, colors=colour, radii=0.015))
        if person.velocity is None:
            stream.log(f"{entity}/velocity", rr.Clear(recursive=False))
        else:
            arrow = rr.Arrows3D(
                vectors=[person.velocity], origins=[person.position], colors=colour, radii=0.015
            )
            stream.log(f"{entity}/velocity", arrow)

    def close(self) -> None:
        """Write what is pending and finish the file.

        Raises:
            InputError: the disk is full, and the like.
        """
        advice = "; make room, or give another --rerun"
        with refusing(f"recording {self.path} cannot be finished", advice):
            self._stream.flush()
            self._stream.disconnect()

    def __enter__(self) -> RerunWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _encoded(rr: Any, image: Array) -> Any:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return rr.EncodedImage(contents=data.tobytes(), media_type="image/jpeg")


def _blueprint() -> Any:
    """Picture with people, the same in 3D, and the time of the stages."""
    import rerun.blueprint as rrb

    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(
                rrb.Spatial2DView(
                    name="camera", origin="world/camera", contents=["$origin/**", "world/people/**"]
                ),
                rrb.TimeSeriesView(name="ms a stage", origin="statistics/ms"),
                row_shares=[3, 1],
            ),
            rrb.Spatial3DView(name="people", origin="world"),
        ),
        collapse_panels=True,
    )
