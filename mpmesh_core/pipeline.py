"""pipeline: the whole line for one image, and nothing but the line.

image + camera -> detect -> crop -> skeleton -> place -> IK -> refine -> body -> track -> people

People who lean are looked at twice (`second_look`), on single pictures unclear ones many times
(`thorough_look`) and those behind others once more (`hidden_look`); people found twice are left out
(`doubles`); before inverse kinematics, skeletons take the body's bone lengths (`foreshorten`);
after tracking, bodies may be smoothed. Every stage is a batch over the people of the frame; the
mathematics is in the file named after the stage. On a GPU the same functions work on places for
people, some of them empty (`device_line`). A depth image, where there is one, gives the bodies'
distance (`depth`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpmesh_core import steps
from mpmesh_core.body import BodyModel, load_body
from mpmesh_core.camera import Camera
from mpmesh_core.clock import StageClock
from mpmesh_core.configuration import PipelineConfig, SecondLook
from mpmesh_core.deadline import Deadline, Plan, nearest
from mpmesh_core.depth import anchor_people
from mpmesh_core.detect import Detector, nan_scores
from mpmesh_core.device_line import DeviceLine, camera_key
from mpmesh_core.engines import CPU_ONLY, SHAPES_KEPT, Engine, choose_backend
from mpmesh_core.errors import DeviceError, NumericalError
from mpmesh_core.parts import PartsLoader
from mpmesh_core.people import to_people
from mpmesh_core.smoothing import Smoother
from mpmesh_core.stages import load_keeper
from mpmesh_core.tensor_detector import Found, TensorDetector
from mpmesh_core.threads import one_thread
from mpmesh_core.tracking import Tracker
from mpmesh_core.transfer import pack
from mpmesh_core.types import Array, FrameResult, Person


class Looked(NamedTuple):
    """One image's people, before those of the images before are known."""

    result: FrameResult
    detected: int  # people that went through the line, also those it could make nothing of


class Pipeline:
    """People from images; one call a frame.

    Example:
        >>> pipeline = Pipeline(PipelineConfig())  # doctest: +SKIP
        >>> result = pipeline(image, Camera.from_fov(640, 480))  # doctest: +SKIP
    """

    def __init__(
        self,
        config: PipelineConfig | None = None,
        keep_stages: bool = False,
        at_once: int = 1,
    ) -> None:
        """Load body, networks and tracker.

        Args:
            config: everything that can be chosen about the line.
            keep_stages: fill `Person.stages` with what the line makes on the way, for pictures.
            at_once: how many threads will call `look` at the same time, on a CPU; the networks of
                each then have its part of the cores.

        Raises:
            UsageError: several frames at once on a GPU, or with a deadline.
            MPMeshError: weights, body or device that cannot be used; see `errors`.
        """
        self.config = config = config or PipelineConfig()
        self.backend, self.device = choose_backend(config.backend, config.device)
        self.at_once = at_once
        parts = PartsLoader(config, self.backend, self.device, at_once)
        with self._memory("loading"):
            body = load_body(config.body, gender=config.gender)
            self.body: BodyModel = body.to(self.device)
            self.detector: Detector = parts.detector()
            self.skeleton: Engine = parts.engine("skeleton")
            self.refiner: Engine | None = parts.engine("refiner") if config.refine else None
            self._keeper = load_keeper(config, self.body, self.device) if keep_stages else None
        self._followed = Tracker()  # kept from source to source, so that ids go on
        self.tracker: Tracker | None = self._followed if self.config.track else None
        self.smoother: Smoother | None = parts.smoother()
        self._clock = StageClock(self.device)
        self._line = self._load_line()
        self._fuser = parts.fuser()
        limit = self.config.deadline_ms
        self.deadline = None if limit is None else Deadline(limit)
        self._sequence = True
        self._compiled = False  # for the numbers of people that `prepare` knows

    @property
    def faces(self) -> Array:
        """(F, 3) triangles of the body's vertices."""
        return self.body.faces.cpu().numpy()

    def start(self, sequence: bool = True, renumber: bool = False) -> None:
        """Forget the people seen so far.

        Args:
            sequence: the coming frames follow one another in time; without it nobody is tracked,
                and there is time to look at people thoroughly.
            renumber: begin again with the first identity, for a recording of its own.
        """
        self._followed.reset(renumber)
        self._sequence = sequence
        self.tracker = self._followed if self.config.track and sequence else None
        if self.smoother is not None:
            self.smoother.reset()

    @property
    def prepares(self) -> bool:
        """Whether first frames would wait without `prepare`."""
        return self._line is not None or self.backend in SHAPES_KEPT

    @torch.inference_mode()
    def prepare(self, camera: Camera) -> None:
        """Do what would make first frames wait: on a GPU for seconds, see `DeviceLine.prepare`.

        Where networks are compiled for each shape, do so for as many numbers of people as are kept:
        once, since only the detector's shapes depend on the pictures' size.
        """
        most = self.config.max_people
        if self._line is not None:
            find = isinstance(self.detector, TensorDetector)
            with self._memory("preparing"):
                self._line.prepare(camera, self._wanted(most), find)
        elif kept := SHAPES_KEPT.get(self.backend):
            picture = np.zeros((camera.height, camera.width, 3), np.uint8)
            whole = torch.tensor([[0.0, 0.0, camera.width, camera.height]])
            self.detector.detect(picture)
            numbers = () if self._compiled else range(1, min(kept, most) + 1)
            for people in numbers:
                self._people(picture, whole.repeat(people, 1), camera, self._wanted(people))
            self._compiled = True

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
        """Find the people of one image and follow them: `look`, then `follow`.

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
        return self.follow(self.look(image, camera, stamp, frame, source, depth), camera)

    @torch.inference_mode()
    def look(
        self,
        image: Array,
        camera: Camera,
        stamp: float = 0.0,
        frame: int = 0,
        source: str = "",
        depth: Array | None = None,
    ) -> Looked:
        """What this image says alone; arguments and errors as of a call.

        On a CPU, `at_once` threads may do this at the same time.
        """
        self._clock.start()
        work = self._on_host if self._line is None else self._on_device
        # ONNX Runtime and OpenVINO have threads of their own; torch's own networks need torch's.
        with one_thread() if self.backend in CPU_ONLY else nullcontext():
            numbers, left_out = work(image, camera)
        people = self._checked(numbers)
        if depth is not None and people:
            with self._stage("depth", on_host=True):
                people = anchor_people(self.body, people, depth, camera)
        seen_by = camera.width, camera.height, camera.K, camera.D
        timings = self._clock.timings()
        result = FrameResult(frame, stamp, source, *seen_by, people, timings, left_out=left_out)
        return Looked(result, len(numbers["scores"]))

    @torch.inference_mode()
    def follow(self, looked: Looked, camera: Camera) -> FrameResult:
        """The same people with identities; for one image after another, in their order."""
        result = looked.result
        self._clock.start()
        if self.tracker is not None:
            with self._stage("track", on_host=True):
                result = self.tracker.update(result)
        if self.smoother is not None:
            with self._stage("smooth", on_host=True):
                result = self.smoother.update(result, camera)
        result = replace(result, timings=looked.result.timings | self._clock.timings())
        if self.deadline is not None and (self._line is None or self._line.steady):
            self.deadline.learn(result.timings, looked.detected)
        return result

    def _on_host(self, image: Array, camera: Camera) -> tuple[dict[str, Array], tuple[str, ...]]:
        """Numbers of the people of an image, and what was left out; the stages one by one."""
        with self._stage("detect", on_host=True):
            detections = self.detector.detect(image)
        wanted = self._wanted(len(detections.scores))
        plan = self._plan(wanted)
        if plan.people < wanted.people:
            chosen = nearest(torch.from_numpy(detections.boxes), plan.people)
            detections = detections.take(chosen.numpy())
        numbers = {"boxes": detections.boxes, "scores": detections.scores}
        if plan.people:
            fields = self._people(image, torch.from_numpy(detections.boxes), camera, plan)
            numbers |= {name: value.numpy() for name, value in fields.items()}
        return numbers, plan.left_out(wanted)

    def _on_device(self, image: Array, camera: Camera) -> tuple[dict[str, Array], tuple[str, ...]]:
        """The same on a GPU, replayed as graphs; a detector of another kind runs on the host."""
        assert self._line is not None
        if self._fuser is not None and self._fuser.full:
            self._line.forget()
            self._fuser.forget()
        given = None
        if not isinstance(self.detector, TensorDetector):
            with self._stage("detect", on_host=True):
                given = self.detector.detect(image)
        expected = self._line.expected if given is None else len(given.scores)
        plan = self._plan(self._wanted(expected), detected=given is not None)
        with self._memory("the line"):
            numbers = self._line(image, camera, plan, given)
        if numbers.pop("broken"):
            raise nan_scores("mpmesh", self.backend)
        wanted = self._wanted(int(numbers.pop("found")))
        return numbers, replace(plan, people=len(numbers["scores"])).left_out(wanted)

    def _wanted(self, people: int) -> Plan:
        """Everything that the configuration asks for."""
        return Plan(people, refine=self.refiner is not None, mesh=self.config.mesh)

    def _plan(self, wanted: Plan, detected: bool = True) -> Plan:
        """As much of it as there is time for."""
        if self.deadline is None:
            return wanted
        return self.deadline.plan(self._clock.spent(), wanted, detected)

    def _people(
        self, picture: Array | Tensor, boxes: Tensor, camera: Camera, plan: Plan
    ) -> dict[str, Tensor]:
        """The line from boxes to people.

        Args:
            picture: (H, W, 3) uint8 RGB, an array in host memory or a tensor on the device.
            boxes: (N, 4) [px], best first; NaN for a place where nobody is.
            camera: of the picture.
            plan: whether to refine and to compute vertices.

        Returns:
            Fields of `steps.stand`, maybe `vertices`, and (N,) bool `refined` (the refiner gave
            numbers).
        """
        seen = partial(self._step, camera_key(camera))  # steps that depend on the camera
        step = partial(self._step, None)
        crops, pixels = seen("crop", partial(steps.crop, camera), picture, boxes)
        read = partial(steps.read, self.skeleton, self._looks(), self.config.mirror, camera)
        crops, skeletons = seen("skeleton", read, picture, boxes, crops, pixels)
        one_each, points, roots = step("place", steps.place, boxes, skeletons, crops)
        ik = step("ik", partial(steps.solve, self.body), points, skeletons)
        rotations, refined = ik.rotations, ik.ok
        if self.refiner is not None and plan.refine:
            given = skeletons, rotations, roots, crops
            improve = partial(steps.refine, self.refiner, self.body, self.config.context)
            rotations, refined = step("refine", improve, *given)
        focal = float(camera.K[0, 0])
        stand_up = partial(steps.stand, self.body, camera, focal)
        bodies, fields = seen("body", stand_up, rotations, skeletons, crops, one_each, ik.ok)
        if self._keeper is not None:
            with self._stage("keep"):
                fields |= self._keeper(points, roots, ik.rotations, skeletons, crops, focal)
        if plan.mesh:
            with self._stage("mesh"):
                pose = bodies.rotations, bodies.betas, bodies.transl
                fields["vertices"] = self.body(*pose).vertices
        return fields | {"refined": refined}

    def _checked(self, numbers: dict[str, Array]) -> list[Person]:
        """People whose numbers can be used.

        Raises:
            NumericalError: a network returned NaN for every person of the frame.
        """
        if not len(numbers["scores"]):
            return []
        usable, finite, refined = (numbers[name] > 0 for name in ("usable", "finite", "refined"))
        if not finite.any():
            raise NumericalError(
                f"skeleton network ({self.backend}) returned NaN for every person: check its "
                "weights and precision"
            )
        if not refined.any():
            raise NumericalError(
                f"refiner network ({self.backend}) returned NaN for every person: check its "
                "weights and precision, or leave it out with --no-refine"
            )
        return to_people(numbers, usable)

    def _load_line(self) -> DeviceLine | None:
        """On a GPU everything up to the people's numbers is one piece."""
        if self.device.type == "cpu":
            return None
        parts = self._find, self._people, partial(self._step, None, "pack", pack)
        return DeviceLine(*parts, self.device, self.config.max_people, self._clock)

    def _find(self, picture: Tensor) -> Found:
        assert isinstance(self.detector, TensorDetector)
        return self._step(self.detector, "detect", self.detector.find, picture)

    def _step(self, key: Hashable, name: str, step: Callable[..., Any], *inputs: Any) -> Any:
        """A stage, timed, and fused where asked for."""
        with self._stage(name):
            if self._fuser is None:
                return step(*inputs)
            return self._fuser(name, key, step, *inputs)

    def _looks(self) -> SecondLook:
        """How to look again at the people of a frame, once `auto` is decided."""
        if self.config.second_look != "auto":
            return self.config.second_look
        if self._line is not None or self.deadline is not None:
            return "off"
        return "on" if self._sequence else "thorough"

    @contextmanager
    def _stage(self, name: str, on_host: bool = False) -> Iterator[None]:
        """Time a stage; DeviceError where it ran out of GPU memory."""
        with self._memory(name), self._clock.stage(name, on_host):
            yield

    @contextmanager
    def _memory(self, name: str) -> Iterator[None]:
        """DeviceError where a piece of work runs out of GPU memory."""
        try:
            yield
        except torch.cuda.OutOfMemoryError:
            raise DeviceError(
                f"GPU {self.device} is out of memory in {name}: lower --max-people or use "
                "--device cpu"
            ) from None
