"""device_line: the line on a GPU: one copy up, everything there, one copy back.

In   image (H, W, 3) uint8 RGB, its camera, the detector's and the people's part of the line
Out  arrays over the people found, in host memory

How many people there are is known on the host only after the copy back. So the people's part runs
for a padded number of places (1, 2, 4, 8, 12, ... people), enough for everybody seen in the last
frames. Where more were found, it runs once more with enough places; nobody is lost, one frame takes
longer. Both parts are replayed as CUDA graphs; nothing waits in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor

from mpmesh_core.camera import Camera
from mpmesh_core.clock import StageClock
from mpmesh_core.deadline import Plan, nearest
from mpmesh_core.detect import check_image
from mpmesh_core.graphs import Graphs
from mpmesh_core.tensor_detector import Found
from mpmesh_core.transfer import Download, Shapes, Upload, shapes_of
from mpmesh_core.types import Array, Detections

MOST_SIZES = 8  # of pictures that are kept in memory at once
REMEMBERED = 30  # frames: as many places as the most people in them needed

Find = Callable[[Tensor], Found]
People = Callable[[Tensor, Tensor, Camera, Plan], dict[str, Tensor]]
Pack = Callable[[dict[str, Tensor]], Tensor]


class DeviceLine:
    """Numbers of the people of one image after another."""

    def __init__(
        self,
        find: Find,
        people: People,
        pack: Pack,
        device: torch.device,
        max_people: int,
        clock: StageClock,
    ) -> None:
        """Take the parts of the line.

        Args:
            find: picture (H, W, 3) uint8 on the device to `max_people` places.
            people: picture, boxes (P, 4) [px] (NaN where nobody is), camera and plan to fields
                (P, ...).
            pack: `transfer.pack`, or a step that does the same.
            device: where they work.
            max_people: the most places.
            clock: times their stages.
        """
        self._find, self._people, self._pack, self._clock = find, people, pack, clock
        self._max_people = max_people
        self._upload, self._download = Upload(device), Download(device)
        self._graphs = Graphs(device, clock)
        self._boxes = torch.full((max_people, 4), torch.nan, device=device)
        self._scores = torch.zeros(max_people, device=device)
        self._state = torch.zeros(2, device=device)  # people found, network broken
        self._shapes: dict[Hashable, Shapes] = {}
        self._seen: deque[int] = deque([1], maxlen=REMEMBERED)
        self.reruns = 0  # frames that had more people than places

    @property
    def expected(self) -> int:
        """How many people the next frame is prepared for."""
        return max(self._seen)

    @property
    def steady(self) -> bool:
        """Whether the last frame was replayed only: a first or a recorded one takes longer."""
        return self._graphs.steady

    def __call__(
        self, image: Array, camera: Camera, plan: Plan, given: Detections | None = None
    ) -> dict[str, Array]:
        """Numbers of one image's people.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: its intrinsics and lens.
            plan: what to compute; where it has fewer people than `expected`, only the nearest.
            given: who was found already, by a detector that does not run on the device; None runs
                `find`.

        Returns:
            What `people` returns, `boxes` (N, 4) and `scores` (N,), as float32 of N people; `found`
            (), how many there were; and `broken` (), not 0 where the detector returned NaN.

        Raises:
            ShapeError: not such an image.
        """
        check_image(image)
        self._graphs.steady = True
        if len(self._upload) >= MOST_SIZES:
            self._upload.forget()
            self._graphs.forget()  # they read the tensors just dropped
        picture = self._upload(image)
        if given is None:
            self._run_find(picture)
        else:
            self._give(given)
        expected = self.expected if given is None else len(given.scores)
        few = plan.people < expected
        places = padded(max(self.expected, expected), self._max_people)
        if few:
            places = min(places, 1 << (plan.people.bit_length() - 1))  # no graph for every number
        numbers = self._run_people(picture, camera, plan, places, few)
        found, broken = numbers["state"]
        if found > places and not few:
            self.reruns += 1
            places = padded(int(found), self._max_people)
            numbers = self._run_people(picture, camera, plan, places, few)
        self._seen.append(max(int(found), 1))
        del numbers["state"]
        described = {name: value[: int(found)] for name, value in numbers.items()}
        return described | {"found": found, "broken": broken}

    def prepare(self, camera: Camera, plan: Plan, find: bool = True) -> None:
        """Choose kernels and record the graphs for every number of places, on a black picture.

        Takes seconds for each, which the first frames with so many people would take otherwise.

        Args:
            camera: of the pictures to come.
            plan: what they will compute.
            find: whether the detector runs here too.
        """
        picture = self._upload(np.zeros((camera.height, camera.width, 3), np.uint8))
        sizes = sorted(
            {padded(people, self._max_people) for people in range(1, self._max_people + 1)}
        )
        for _ in range(2):  # first as it is, then recorded
            if find:
                self._run_find(picture)
            for places in sizes:
                self._run_people(picture, camera, plan, places, few=False)

    def forget(self) -> None:
        """Drop what was recorded: the next frame runs step by step."""
        self._graphs.forget()

    def _run_find(self, picture: Tensor) -> None:
        self._graphs.run(("find", picture.shape), lambda: self._keep(self._find(picture)))

    def _run_people(
        self, picture: Tensor, camera: Camera, plan: Plan, places: int, few: bool
    ) -> dict[str, Array]:
        key = ("people", camera_key(camera), plan.refine, plan.mesh, places, few)

        def work() -> Tensor:
            boxes, scores = self._boxes[:places], self._scores[:places]
            if few:
                order = nearest(self._boxes, places)
                boxes, scores = self._boxes[order], self._scores[order]
            fields = {
                "state": self._state,
                "boxes": boxes,
                "scores": scores,
                **self._people(picture, boxes, camera, plan),
            }
            self._shapes[key] = shapes_of(fields)
            return self._pack(fields)

        return self._download(self._graphs.run(key, work), self._shapes[key])

    def _keep(self, found: Found) -> Tensor:
        """Put what was found where the people's part looks for it."""
        self._boxes.copy_(found.boxes)
        self._scores.copy_(found.scores)
        return self._state.copy_(torch.stack((found.people, found.broken)))

    def _give(self, given: Detections) -> None:
        """The same for people found elsewhere; one more small copy to the device."""
        people = min(len(given.scores), self._max_people)
        table = np.full((self._max_people + 1, 5), np.nan, np.float32)
        table[:people, :4], table[:people, 4] = given.boxes[:people], given.scores[:people]
        table[-1, :2] = people, 0
        rows = self._upload(table)
        self._boxes.copy_(rows[:-1, :4])
        self._scores.copy_(rows[:-1, 4])
        self._state.copy_(rows[-1, :2])


def padded(people: int, most: int) -> int:
    """The next of 1, 2, 4, 8, 12, 16, 24, 32, 48, ... places, or the most there are."""
    places = 1 << max(people - 1, 0).bit_length()
    fewer = places * 3 // 4
    return min(fewer if places > 8 and people <= fewer else places, most)


def camera_key(camera: Camera) -> Hashable:
    """The same for cameras that see the same."""
    size = camera.width, camera.height
    return size, camera.model, camera.K.tobytes(), camera.D.tobytes()
