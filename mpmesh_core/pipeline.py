"""pipeline: the whole line for one image, and nothing but the line.

image + camera -> detect -> crop -> skeleton -> place -> IK -> refine -> body -> track -> people

A depth image, where there is one, gives the bodies' distance (`depth`).
After the skeletons, people found twice are dropped (`doubles`); before inverse kinematics,
skeletons take the body's bone lengths (`foreshorten`); after tracking, bodies may be smoothed.
Every stage is a batch over the people of the frame; the mathematics is in the file named after the
stage.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.crop import CropCameras, crop_images, look_at
from mpmesh_core.depth import anchor_to_depth
from mpmesh_core.detect import Detector, load_detector
from mpmesh_core.doubles import distinct
from mpmesh_core.engines import Backend, Engine, choose_backend, load_engine
from mpmesh_core.errors import DeviceError, NumericalError
from mpmesh_core.foreshorten import foreshorten
from mpmesh_core.ik import IKResult, solve_ik, twist_from_rotations
from mpmesh_core.mirror import read_crops
from mpmesh_core.people import people_from_bodies
from mpmesh_core.placement import PlacementNoise, fit_residual, mix_absolute, place
from mpmesh_core.refine import refine
from mpmesh_core.smoothing import Smoother
from mpmesh_core.tracking import Tracker
from mpmesh_core.types import Array, Bodies, Detections, FrameResult, Person, Skeletons
from mpmesh_core.weights import weights_path

IMAGE_SHARE = 1.0  # of the 2D points in the skeleton that IK aims at
# Guesses of the light network's errors, not calibrated; a person's size is what one camera can't
# see.
NOISE = PlacementNoise(pixel_sigma=4.0, joint_sigma=0.04, scale_sigma=0.06)


class PipelineConfig(BaseModel):
    """Everything that can be chosen about the line; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: Literal["light", "paper"] = Field("light", description="size of the networks")
    backend: Backend = Field("auto", description="what runs the networks")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    weights: Path | None = Field(None, description="folder of checkpoints instead of the shipped")
    detector: Path | None = Field(None, description="ONNX file of another person detector")
    body: str = Field("open", description="open, smpl, or a path to a body file")
    gender: Literal["neutral", "male", "female"] = Field("neutral", description="of an SMPL body")
    max_people: Annotated[int, Field(ge=1, le=256)] = Field(
        32, description="people a frame, best scores first"
    )
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="detections below it are dropped; None takes the detector's own"
    )
    mirror: bool = Field(False, description="read each crop in a mirror too, and average")
    refine: bool = Field(True, description="run the relation-aware refiner")
    context: Annotated[int, Field(ge=1, le=4)] = Field(
        3, description="people in one refiner run, the target included (N of the paper)"
    )
    track: bool = Field(True, description="identities, states and velocities over frames")
    smooth: bool = Field(False, description="quieter bodies on videos, a little late")
    mesh: bool = Field(False, description="compute the vertices of every person")


def absolute_points(skeletons: Skeletons, crops: CropCameras) -> Tensor:
    """(N, 29, 3) points [m] in the crop cameras: where the skeletons stand."""
    relative, pixels = skeletons.points3d, skeletons.points2d
    placement = place(relative, pixels, point_weights(skeletons), crops.K, NOISE)
    return mix_absolute(relative, pixels, placement.root, crops.K, mix=IMAGE_SHARE)


def solve_pose(points: Tensor, skeletons: Skeletons, body: BodyModel) -> IKResult:
    """Inverse kinematics towards `absolute_points` that have the body's bone lengths."""
    rest = body.rest_points(skeletons.betas)
    return solve_ik(foreshorten(points, rest, skeletons.confidence), rest, skeletons.twist)


def onto_picture(
    rotations: Tensor, betas: Tensor, skeletons: Skeletons, crops: CropCameras, body: BodyModel
) -> Tensor:
    """Bring refined bodies back to where the skeletons' image points are.

    The refiner sees no pixels. Its depth, twist and shape stay; across the line of sight the joints
    go where the picture shows them, again by inverse kinematics.

    Returns:
        (N, 24, 3, 3) rotations.
    """
    rest = body.rest_points(betas)
    posed = body(rotations, betas, torch.zeros_like(betas[:, :3]), vertices=False).points
    refined = replace(skeletons, points3d=posed - posed[:, :1], betas=betas)
    refined = replace(refined, twist=twist_from_rotations(rotations, rest))
    return solve_pose(absolute_points(refined, crops), refined, body).rotations


def point_weights(skeletons: Skeletons) -> Tensor:
    """(N, 29) weights for least squares: the square, since errors grow as 1 / confidence."""
    return skeletons.confidence.square()


class Pipeline:
    """People from images; one call a frame.

    Example:
        >>> pipeline = Pipeline(PipelineConfig())  # doctest: +SKIP
        >>> result = pipeline(image, Camera.from_fov(640, 480))  # doctest: +SKIP
    """

    def __init__(self, config: PipelineConfig | None = None) -> None:
        """Load body, networks and tracker.

        Raises:
            MPMeshError: weights, body or device that cannot be used; see `errors`.
        """
        self.config = config or PipelineConfig()
        self.backend, self.device = choose_backend(self.config.backend, self.config.device)
        self.body: BodyModel = load_body(self.config.body, gender=self.config.gender).to(
            self.device
        )
        self.detector: Detector = self._load_detector()
        self.skeleton: Engine = self._load_engine("skeleton")
        self.refiner: Engine | None = self._load_engine("refiner") if self.config.refine else None
        self._followed = Tracker()  # kept from source to source, so that ids go on
        self.tracker: Tracker | None = self._followed if self.config.track else None
        self.smoother: Smoother | None = self._load_smoother()
        self._timings: dict[str, float] = {}

    @property
    def faces(self) -> Array:
        """(F, 3) triangles of the body's vertices."""
        return self.body.faces.cpu().numpy()

    def start(self, sequence: bool = True, renumber: bool = False) -> None:
        """Forget the people seen so far.

        Args:
            sequence: the coming frames follow one another in time; without it nobody is tracked.
            renumber: begin again with the first identity, for a recording of its own.
        """
        self._followed.reset(renumber)
        self.tracker = self._followed if self.config.track and sequence else None
        if self.smoother is not None:
            self.smoother.reset()

    @torch.inference_mode()
    def __call__(
        self,
        image: Array,
        camera: Camera,
        stamp: float = 0.0,
        frame: int = 0,
        source: str = "",
        depth: Array | None = None,
    ) -> FrameResult:
        """Find the people of one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: its intrinsics and lens.
            stamp: time of the image [s]; the tracker needs it to grow from frame to frame.
            frame: number of the frame, copied into the result.
            source: name of the image, likewise.
            depth: (H, W) [m], aligned to the image, where the camera measures it; gives distances.

        Returns:
            The people, best detection first, in the camera optical frame.

        Raises:
            NumericalError: a network returned NaN for every person of the frame.
            DeviceError: out of GPU memory.
        """
        self._timings = {}
        result = FrameResult(
            frame, stamp, source, camera.width, camera.height, camera.K, camera.D, []
        )
        with self._timed("detect"):
            detections = self.detector.detect(image)
        if len(detections.scores):
            result = replace(result, people=self._people(image, camera, detections, depth))
        if self.tracker is not None:
            with self._timed("track"):
                result = self.tracker.update(result)
        if self.smoother is not None:
            with self._timed("smooth"):
                result = self.smoother.update(result, camera)
        return replace(result, timings=self._timings)

    def _people(
        self, image: Array, camera: Camera, detections: Detections, depth: Array | None
    ) -> list[Person]:
        boxes = torch.from_numpy(detections.boxes)
        with self._timed("crop"):
            crops = look_at(boxes, camera)
            crop_pixels = crop_images(image, camera, crops)
        with self._timed("skeleton"):
            pixels = crop_pixels.to(self.device).float()
            skeletons = read_crops(self.skeleton, pixels, self.config.mirror)
        crops = crops.to(self.device)
        kept = distinct(detections, skeletons, crops)
        detections = detections.take(kept.numpy())
        skeletons, crops = skeletons.take(kept.to(self.device)), crops.take(kept.to(self.device))
        with self._timed("place"):
            points = absolute_points(skeletons, crops)
        with self._timed("ik"):
            ik = solve_pose(points, skeletons, self.body)
            if not bool(ik.ok.any()):
                raise NumericalError(
                    f"skeleton network ({self.backend}) returned NaN for every person: check its "
                    "weights and precision"
                )
        with self._timed("refine"):
            rotations, betas = ik.rotations, skeletons.betas
            if self.refiner is not None:
                rotations, betas = refine(
                    self.refiner,
                    skeletons,
                    rotations,
                    betas,
                    points[:, 0],
                    crops,
                    self.config.context,
                )
                rotations = onto_picture(rotations, betas, skeletons, crops, self.body)
        with self._timed("body"):
            bodies, ok = self._bodies(rotations, betas, skeletons, crops, camera.K[0, 0])
            if depth is not None:
                bodies = anchor_to_depth(self.body, bodies, depth, camera)
            return people_from_bodies(
                self.body, bodies, ok & ik.ok, skeletons, detections, camera, self.config.mesh
            )

    def _bodies(
        self,
        rotations: Tensor,
        betas: Tensor,
        skeletons: Skeletons,
        crops: CropCameras,
        focal: float,
    ) -> tuple[Bodies, Tensor]:
        """Stand the bodies where their own joints agree best with the image, in the camera."""
        zero = torch.zeros_like(betas[:, :3])
        posed = self.body(rotations, betas, zero, vertices=False).points
        relative = posed - posed[:, :1]
        seen = skeletons.points2d, point_weights(skeletons), crops.K
        placement = place(relative, *seen, NOISE)
        residual = focal * fit_residual(relative + placement.root[:, None], *seen)
        to_camera = crops.R_crop_cam.transpose(-1, -2)
        in_camera = torch.cat([to_camera @ rotations[:, 0], rotations[:, 1:].flatten(1, 2)], dim=1)
        rotations = in_camera.unflatten(1, (24, 3))
        pelvis = (to_camera @ placement.root[..., None])[..., 0]
        covariance = to_camera @ placement.covariance @ crops.R_crop_cam
        transl = pelvis - self.body.rest_joints(betas)[:, 0]
        return Bodies(rotations, betas, transl, covariance, residual), placement.ok

    def _load_smoother(self) -> Smoother | None:
        """Smoothing works on finished people, so its body stays on the CPU."""
        if not (self.config.smooth and self.config.track):
            return None
        return Smoother(load_body(self.config.body, gender=self.config.gender))

    def _load_engine(self, name: str) -> Engine:
        path = weights_path(name, self.config.variant, self.config.weights)
        return load_engine(name, path, self.backend, self.device)

    def _load_detector(self) -> Detector:
        source = self.config.detector or self._load_engine("detector")
        return load_detector(source, self.config.max_people, self.config.score_threshold)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Record how long a stage took [ms]; on CUDA that is the time to queue its work.

        Raises:
            DeviceError: the stage ran out of GPU memory.
        """
        start = time.perf_counter()
        try:
            yield
        except torch.cuda.OutOfMemoryError:
            raise DeviceError(
                f"GPU {self.device} is out of memory in {stage}: lower --max-people or use "
                "--device cpu"
            ) from None
        self._timings[stage] = 1e3 * (time.perf_counter() - start)
