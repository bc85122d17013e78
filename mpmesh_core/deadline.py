"""deadline: what a frame leaves out so that it is done in time.

In   a limit [ms], what stages cost in the frames before
Out  Plan: vertices or not, refiner or not, how many people
Given up in this order: vertices, the refiner, the people farthest away. Nearest are those whose
boxes are tallest: distances are known only later. A frame may still be late: costs are guesses, and
the detector and one person are never given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

ALONE = ("detect", "track", "smooth")  # stages that cost the same for any number of people
EACH = ("crop", "skeleton", "place", "ik", "body")  # stages that nobody can do without
_SMOOTHING = 0.1  # share of a new cost that is smaller than the old one
_FADING = 0.98  # of the cost of what was left out, so that it is tried again


@dataclass(frozen=True)
class Plan:
    """What a frame computes."""

    people: int  # at most so many
    refine: bool
    mesh: bool

    def left_out(self, wanted: Plan) -> tuple[str, ...]:
        """What this plan gives up of another, in words."""
        parts = []
        if wanted.mesh and not self.mesh:
            parts.append("vertices")
        if wanted.refine and not self.refine:
            parts.append("refiner")
        missing = wanted.people - self.people
        if missing > 0:
            parts.append("1 person" if missing == 1 else f"{missing} people")
        return tuple(parts)


class Deadline:
    """Plans frames by what the frames before took."""

    def __init__(self, milliseconds: float) -> None:
        self.milliseconds = milliseconds
        self._costs: dict[str, float] = {}  # [ms], of `EACH`, refine and mesh a person

    def plan(self, spent: float, wanted: Plan, detected: bool = True) -> Plan:
        """As much of what is wanted as there is time for.

        Args:
            spent: [ms] of this frame so far.
            wanted: everything, with the number of people found or expected.
            detected: whether the detector has run already.
        """
        ahead = [name for name in ALONE if not (detected and name == "detect")]
        left = self.milliseconds - spent - self._cost(*ahead)
        person = self._cost(*EACH)
        if not person:  # nobody was seen yet
            return wanted
        refine, mesh = self._cost("refine") * wanted.refine, self._cost("mesh") * wanted.mesh
        if wanted.people * (person + refine + mesh) <= left:
            return wanted
        if wanted.people * (person + refine) <= left:
            return replace(wanted, mesh=False)
        if wanted.people * person <= left:
            return replace(wanted, mesh=False, refine=False)
        people = min(max(int(left / person), 1), wanted.people)
        return Plan(people, refine=False, mesh=False)

    def learn(self, timings: Mapping[str, float], people: int) -> None:
        """Take what a frame's stages took [ms] for so many people."""
        for name in (*ALONE, *EACH, "refine", "mesh"):
            if name in timings:
                cost = timings[name] / (1 if name in ALONE else max(people, 1))
                before = self._costs.get(name, 0.0)
                self._costs[name] = max(cost, before + _SMOOTHING * (cost - before))
            elif name in self._costs:
                self._costs[name] *= _FADING

    def _cost(self, *names: str) -> float:
        return sum(self._costs.get(name, 0.0) for name in names)


def nearest(boxes: Tensor, people: int) -> Tensor:
    """(K,) which of N boxes (N, 4) are the `people` tallest, ascending; NaN ones come last."""
    heights = (boxes[:, 3] - boxes[:, 1]).nan_to_num(nan=-1.0)
    return heights.topk(min(people, len(boxes))).indices.sort().values
