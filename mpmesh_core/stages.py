"""stages: what the line makes on the way to the final bodies, kept for pictures.

In   placed points, rotations of inverse kinematics, skeletons and crops of N people
Out  fields of `Stages` as (N, ...) tensors in the camera frame; then one `Stages` a person

Engines export only what the line needs, so attention comes from the refiner's checkpoint in torch,
whichever backend runs the line. Nothing here changes a result.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from mpmesh_core.body import BodyModel
from mpmesh_core.configuration import PipelineConfig
from mpmesh_core.crop import CropCameras
from mpmesh_core.networks.checkpoint import load_network
from mpmesh_core.networks.refiner import RefinerNetwork
from mpmesh_core.pose import stand
from mpmesh_core.refine import refiner_inputs
from mpmesh_core.types import Array, Skeletons, Stages
from mpmesh_core.weights import weights_path

_PREFIX = "stages/"
_FIELDS = [field.name for field in fields(Stages) if field.name != "place"]


class StageKeeper:
    """Describes the stages of one frame's people.

    Args:
        body: the body model of the line.
        refiner: its refiner in torch on the line's device; None where nobody is refined.
        max_people: people in one refiner run, as in the line.
    """

    def __init__(self, body: BodyModel, refiner: RefinerNetwork | None, max_people: int) -> None:
        self._body, self._refiner, self._max_people = body, refiner, max_people

    def __call__(
        self,
        points: Tensor,
        roots: Tensor,
        rotations: Tensor,
        skeletons: Skeletons,
        crops: CropCameras,
        focal: float,
    ) -> dict[str, Tensor]:
        """Fields for `to_stages`.

        Args:
            points: (N, 29, 3) [m] placed skeletons, crop cameras.
            roots: (N, 3) their pelvises, NaN for people whom nobody shall read.
            rotations: (N, 24, 3, 3) of inverse kinematics.
            skeletons, crops: as everywhere on the line.
            focal: of the picture [px].
        """
        bodies, _ = stand(rotations, skeletons.betas, skeletons, crops, self._body, focal)
        inputs = refiner_inputs(
            skeletons, rotations, skeletons.betas, roots, crops, self._max_people
        )
        context = torch.where(inputs["valid"], inputs["context"], -1)
        shape = (len(points), 24, self._max_people, 24)
        if self._refiner is None:
            attention = points.new_full(shape, torch.nan)
        else:
            attention = self._refiner.attention(*inputs.values())
        found = {
            "skeleton": points @ crops.R_crop_cam,
            "rotations": bodies.rotations,
            "betas": bodies.betas,
            "transl": bodies.transl,
            "context": context,
            "attention": attention,
        }
        return {_PREFIX + name: value for name, value in found.items()}


def load_keeper(config: PipelineConfig, body: BodyModel, device: torch.device) -> StageKeeper:
    """The keeper of a line with this configuration, on its device.

    Raises:
        MPMeshError: the refiner's checkpoint is missing or damaged.
    """
    refiner: RefinerNetwork | None = None
    if config.refine:
        path = weights_path("refiner", config.variant, config.weights)
        refiner = load_network(path, RefinerNetwork).to(device)
    return StageKeeper(body, refiner, config.context)


def to_stages(numbers: dict[str, Array], place: int) -> Stages | None:
    """Stages of the person at a place among the detections; None where nobody kept them."""
    if _PREFIX + "skeleton" not in numbers:
        return None
    found = {name: numbers[_PREFIX + name][place] for name in _FIELDS}
    return Stages(place, **(found | {"context": found["context"].astype(int)}))
