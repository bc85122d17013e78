"""recipe: a file that trains a whole variant, stage after stage.

A recipe has `skeleton` and then `refiner` (each on the last one's result), or `joint`, or all
three: joint training last. Every stage resumes, so the same command goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from mpmesh_core.errors import UsageError
from mpmesh_core.networks.refiner import RefinerConfig
from mpmesh_core.networks.skeleton import SkeletonConfig
from mpmesh_core.training.joint import JointTraining, train_joint
from mpmesh_core.training.refiner import RefinerTraining, train_refiner
from mpmesh_core.training.skeleton import SkeletonTraining, train_skeleton


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The stages of one variant."""

    # Made from settings, it refuses unknown keys.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    variant: Literal["light", "paper"] = "light"
    skeleton: SkeletonTraining | None = None
    refiner: RefinerTraining | None = None
    joint: JointTraining | None = None


def train_recipe(recipe: Recipe, tell: Callable[[str], None] = print) -> list[Path]:
    """Run all stages, or go on with them; returns the checkpoints in their order.

    Raises:
        UsageError: no stage, or one of another variant than the recipe's.
    """
    _check(recipe)
    made: list[Path] = []
    if recipe.skeleton is not None:
        tell("stage skeleton")
        made.append(train_skeleton(recipe.skeleton))
    if recipe.refiner is not None:
        tell("stage refiner")
        made.append(train_refiner(recipe.refiner))
    if recipe.joint is not None:
        tell("stage joint")
        made += train_joint(recipe.joint)
    return made


def _check(recipe: Recipe) -> None:
    stages: dict[str, SkeletonConfig | RefinerConfig] = {}
    if recipe.skeleton is not None:
        stages["skeleton.network"] = recipe.skeleton.network
    if recipe.refiner is not None:
        stages["refiner.network"] = recipe.refiner.network
    if recipe.joint is not None:
        stages["joint.network"] = recipe.joint.network
        stages["joint.refiner"] = recipe.joint.refiner
    if not stages:
        raise UsageError("a recipe needs a stage: skeleton, refiner or joint")
    for name, network in stages.items():
        if network.variant != recipe.variant:
            raise UsageError(
                f"{name} is of variant {network.variant}, the recipe of {recipe.variant}"
            )
