"""Whether the claimed covariance of positions is right for the networks' real errors.

`python benchmarks/placement.py --data DATA [--scenes 300] [--weights FOLDER]`

Runs the pipeline on held-out synthetic scenes, whose distances are known, and prints which share
of the people lie in the ellipsoid that claims 68 % of them, and how far off their distances are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.evaluation.detection import box_iou
from mpmesh_core.pipeline import Pipeline, PipelineConfig
from mpmesh_core.training.scene import PersonTruth, Scene
from mpmesh_core.training.synthetic.config import SyntheticConfig
from mpmesh_core.training.synthetic.generate import make_scene
from mpmesh_core.training.synthetic.library import Library
from mpmesh_core.types import Person

CHI_SQUARE_68 = 3.527  # 3 degrees of freedom
LEAST_VISIBILITY, LEAST_HEIGHT = 0.5, 96  # of the people that count; height in px
NEAR, FAR = 3.0, 6.0  # [m], where the groups of distances end


def errors(scene: Scene, people: list[Person], body: BodyModel) -> list[tuple[float, float, float]]:
    """Distance [m], squared Mahalanobis distance and relative error of range, a row a person."""
    rows = []
    truths = [person for person in scene.people if _counts(person)]
    if not truths or not people:
        return rows
    boxes = np.stack([person.bbox for person in people])
    overlap = box_iou(np.stack([truth.visible_box for truth in truths]), boxes)
    for truth, row in zip(truths, overlap):
        found = people[int(row.argmax())]
        if row.max() < 0.5:
            continue
        true = truth.transl + body.rest_joints(torch.from_numpy(truth.betas))[0].numpy()
        off = found.position - true
        squared = off @ np.linalg.solve(found.position_covariance, off)
        distance = float(np.linalg.norm(true))
        rows.append((distance, float(squared), np.linalg.norm(found.position) / distance - 1))
    return rows


def _counts(person: PersonTruth) -> bool:
    box = person.visible_box
    return (
        box is not None
        and person.visibility >= LEAST_VISIBILITY
        and box[3] - box[1] >= LEAST_HEIGHT
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--weights", type=Path, help="folder of checkpoints")
    args = parser.parse_args()
    config = SyntheticConfig(data=args.data, held_out=True)
    library = Library.load(config)
    pipeline = Pipeline(PipelineConfig(weights=args.weights, track=False))
    rows = []
    for number in range(args.scenes):
        scene = make_scene(library, config, np.random.default_rng([4, number]))
        rows += errors(scene, pipeline(scene.image, scene.camera).people, pipeline.body)
    distance, squared, relative = np.array(rows).T
    groups = {"all": distance > 0, f"under {NEAR:g} m": distance < NEAR,
              f"{NEAR:g} to {FAR:g} m": (distance >= NEAR) & (distance < FAR),
              f"over {FAR:g} m": distance >= FAR}  # fmt: skip
    for name, rows_of in groups.items():
        share = np.mean(squared[rows_of] <= CHI_SQUARE_68)
        off = np.median(np.abs(relative[rows_of]))
        print(
            f"{name}: {rows_of.sum()} people, {share:.1%} inside the 68 % ellipsoid, "
            f"range off by {off:.1%} (median), {np.mean(relative[rows_of]):+.1%} (mean)"
        )


if __name__ == "__main__":
    main()
