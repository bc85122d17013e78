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
_SHARE_EACH = 0.3  # of a person in a frame's cost beside what is fixed; before more is known
_FADING = 0.98  # of the cost of what was left out, so that it is tried again
_FADING_EACH = 0.995  # of a person's, while some are left out: one more makes a frame late


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


@dataclass
class _Cost:
    """What something takes for n people: `fixed + each * n` [ms], learnt from frame to frame."""

    fixed: float = 0.0
    each: float = 0.0

    def of(self, people: int) -> float:
        """[ms]"""
        return self.fixed + self.each * people

    def most(self, milliseconds: float) -> float:
        """How many people there is time for; not whole, not bounded."""
        return (milliseconds - self.fixed) / max(self.each, 1e-9)

    def learn(self, milliseconds: float, people: int) -> None:
        """Move both parts so that they explain a frame: at once if it was slower, else slowly.

        They share in it as in a step of least squares, the part that is each person's the more the
        more people there were.
        """
        size = _SHARE_EACH * people
        error = (milliseconds - self.of(people)) / (1 + size**2)
        if error < 0:
            error *= _SMOOTHING
        self.fixed += error
        self.each += error * size * _SHARE_EACH
        if self.each < 0:  # more people never take less time
            self.fixed, self.each = self.of(people), 0.0

    def fade(self) -> None:
        """Of what was left out nothing is heard, so that in time it is tried again."""
        self.fixed *= _FADING
        self.each *= _FADING


class Deadline:
    """Plans frames by what the frames before took."""

    def __init__(self, milliseconds: float) -> None:
        self.milliseconds = milliseconds
        self._alone: dict[str, float] = {}  # [ms], of the stages `ALONE`
        self._person, self._refine, self._mesh = _Cost(), _Cost(), _Cost()
        self._short = False  # fewer planned than were wanted

    def plan(self, spent: float, wanted: Plan, detected: bool = True) -> Plan:
        """As much of what is wanted as there is time for.

        Args:
            spent: [ms] of this frame so far.
            wanted: everything, with the number of people found or expected.
            detected: whether the detector has run already.
        """
        ahead = [name for name in ALONE if not (detected and name == "detect")]
        left = self.milliseconds - spent - sum(self._alone.get(name, 0.0) for name in ahead)
        known = self._person.of(1) > 0  # somebody was seen before
        plan = self._within(left, wanted) if known and wanted.people else wanted
        self._short = plan.people < wanted.people
        return plan

    def _within(self, left: float, wanted: Plan) -> Plan:
        people = wanted.people
        least = self._person.of(people)
        refine = self._refine.of(people) * wanted.refine
        if least + refine + self._mesh.of(people) * wanted.mesh <= left:
            return wanted
        if least + refine <= left:
            return replace(wanted, mesh=False)
        if least > left:
            people = int(min(max(self._person.most(left), 1), people))
        return Plan(people, refine=False, mesh=False)

    def learn(self, timings: Mapping[str, float], people: int) -> None:
        """Take what a frame's stages took [ms] for so many people."""
        for name in ALONE:
            before, cost = self._alone.get(name, 0.0), timings.get(name)
            if cost is not None:
                self._alone[name] = max(cost, before + _SMOOTHING * (cost - before))
        if not people:
            return
        self._person.learn(sum(timings.get(name, 0.0) for name in EACH), people)
        for name, costs in (("refine", self._refine), ("mesh", self._mesh)):
            if name in timings:
                costs.learn(timings[name], people)
            else:
                costs.fade()
        if self._short:
            self._person.each *= _FADING_EACH


def nearest(boxes: Tensor, people: int) -> Tensor:
    """(K,) which of N boxes (N, 4) are the `people` tallest, ascending; NaN ones come last."""
    heights = (boxes[:, 3] - boxes[:, 1]).nan_to_num(nan=-1.0)
    return heights.topk(min(people, len(boxes))).indices.sort().values
