"""poses: which pose a synthetic person takes.

Real poses come from motion clips, balanced over activities (most frames of the recordings are
walking), mirrored at random, some with limbs exchanged between clips and all a little shaken.
Postures that the recordings lack (sitting, squatting, reaching, waving) are composed. Without clips
only composed postures are left, which is what the demo clip uses. `PoseBank.draw_low` draws only
those near the ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from mpmesh_core.training.mocap import Clip, mirror

Array = np.ndarray
Random = np.random.Generator

LEFT_ARM, RIGHT_ARM = (13, 16, 18, 20), (14, 17, 19, 21)
LEGS = (1, 2, 4, 5, 7, 8)
_TRIES = 30  # recorded poses to look at for one near the ground
JITTER = np.deg2rad(
    [2, 7, 7, 3, 6, 6, 3, 6, 6, 3, 4, 4, 7, 4, 4, 8, 9, 9, 9, 9, 12, 12, 4, 4]
)  # [rad] standard deviation per joint
SOURCES = {"cmu_mocap": 0.52, "deepmimic": 0.32, "makehuman": 0.16}
"""Share of each source in the recorded poses."""
COMPOSED = 0.34  # share of composed postures where there are recorded ones too
LOW_COMPOSED = 0.6  # the same near the ground, of which recordings have little
LOW = 0.45  # [m] a pelvis that is no higher than this above the lower ankle is near the ground
_THIGH, _SHIN = 0.38, 0.4  # [m]
RARE = {
    "walking_extra": 0.7, "backflip": 0.3, "cartwheel": 0.3, "sideflip": 0.3, "roll": 0.3,
    "getup": 0.4, "crawl": 0.5, "fly": 0.2, "gym": 0.4,
}  # fmt: skip
"""Weight of activities that shall be rarer than the others of their source."""


@dataclass(frozen=True)
class Pose:
    """A pose in a y-up world with the person upright or not, facing anywhere."""

    rotations: Array  # (24, 3, 3) float32 local
    source: str
    seated: bool = False  # something should stand under the pelvis


def turn(axis: str, degrees: float) -> Array:
    """Rotation (3, 3) about x (left), y (up) or z (forward)."""
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


class PoseBank:
    """Draws poses from clips and from composed postures."""

    def __init__(self, clips: list[Clip]) -> None:
        groups: dict[tuple[str, str], list[Clip]] = {}
        for clip in clips:
            groups.setdefault(_group(clip.name), []).append(clip)
        self.groups = list(groups.values())
        self.shares = _shares(list(groups))

    def draw(self, rng: Random) -> Pose:
        """One pose, ready to be turned about the vertical."""
        composed = not self.groups or rng.random() < COMPOSED
        return _varied(rng, compose(rng) if composed else self._recorded(rng))

    def draw_low(self, rng: Random) -> Pose:
        """One pose near the ground: sitting on it, lying, kneeling, crawling, getting up."""
        if self.groups and rng.random() > LOW_COMPOSED:
            for _ in range(_TRIES):
                pose = self._recorded(rng)
                if is_low(pose.rotations):
                    return _varied(rng, pose)
        return _varied(rng, compose(rng, LOW_SHARES))

    def _recorded(self, rng: Random) -> Pose:
        name, rotations = self.frame(rng)
        if rng.random() < 0.3:
            _, other = self.frame(rng)
            for arm in (LEFT_ARM, RIGHT_ARM):
                if rng.random() < 0.6:
                    rotations[list(arm)] = other[list(arm)]
        return Pose(rotations, name)

    def frame(self, rng: Random) -> tuple[str, Array]:
        """A recorded pose (24, 3, 3) as it is, and its clip's name; activities in their shares."""
        group = self.groups[rng.choice(len(self.groups), p=self.shares)]
        clip = group[rng.integers(len(group))]
        return clip.name, clip.rotations[rng.integers(len(clip.rotations))].copy()


def _varied(rng: Random, pose: Pose) -> Pose:
    """The pose or its mirror image, a little shaken."""
    rotations = mirror(pose.rotations) if rng.random() < 0.5 else pose.rotations
    shaken = shake(rng, rotations, float(rng.choice([0.4, 1.0, 1.8])))
    return Pose(shaken, pose.source, pose.seated)


def is_low(rotations: Array) -> bool:
    """Whether the pelvis of a pose (24, 3, 3) is hardly higher than its ankles."""
    heights = []
    for hip, knee in ((1, 4), (2, 5)):
        thigh = rotations[0] @ rotations[hip]
        shin = thigh @ rotations[knee]
        heights.append(_THIGH * thigh[1, 1] + _SHIN * shin[1, 1])
    return max(heights) < LOW


def _group(name: str) -> tuple[str, str]:
    """Source and activity of a clip: its folder for CMU, its name without number for the others."""
    parts = name.split("/")
    activity = parts[-2] if parts[0] == "cmu_mocap" else parts[-1].rstrip("0123456789")
    return parts[0], activity.removeprefix("humanoid3d_")


def _shares(groups: list[tuple[str, str]]) -> Array:
    """Probability of each group: sources by their share, then activities by theirs."""
    weights = np.array(
        [min([w for word, w in RARE.items() if word in name], default=1.0) for _, name in groups]
    )
    for source in {source for source, _ in groups}:
        own = np.array([group[0] == source for group in groups])
        weights[own] *= SOURCES.get(source, 0.2) / weights[own].sum()
    return weights / max(weights.sum(), 1e-9)


def shake(rng: Random, rotations: Array, scale: float) -> Array:
    """Turn every joint (24, 3, 3) by a small random rotation."""
    vectors = rng.standard_normal((24, 3)) * JITTER[:, None] * scale
    vectors[0, 1] = 0  # yaw is drawn elsewhere
    return rotations @ Rotation.from_rotvec(vectors).as_matrix().astype(np.float32)


def compose(rng: Random, shares: dict[str, float] | None = None) -> Pose:
    """A posture put together from a way to hold the legs and one for each arm.

    Args:
        rng: source of chance.
        shares: of the ways to hold the legs; `LEG_SHARES` where not given.
    """
    rotations = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
    legs = shares or LEG_SHARES
    kind = str(rng.choice(list(legs), p=list(legs.values())))
    _LEGS[kind](rng, rotations)
    for side in (1, -1):
        hold_arm(rng, rotations, side, _propped(rng, kind) if shares else None)
    lean, twist = rng.normal(*SPINE_LEAN.get(kind, (0, 10))), rng.normal(0, 12)
    for joint in (3, 6, 9):
        rotations[joint] = turn("x", lean / 3) @ turn("y", twist / 3) @ rotations[joint]
    rotations[12] = turn("y", rng.normal(0, 12)) @ turn("x", rng.normal(0, 7))
    rotations[15] = turn("y", rng.normal(0, 15)) @ turn("x", rng.normal(5, 10))
    return Pose(rotations.astype(np.float32), f"composed/{kind}", kind == "sit")


def _legs_stand(rng: Random, rotations: Array) -> None:
    for hip, knee, side in ((1, 4, 1), (2, 5, -1)):
        bend = abs(rng.normal(0, 8))
        rotations[hip] = turn("z", side * rng.uniform(-2, 14)) @ turn("x", -bend)
        rotations[knee] = turn("x", 1.6 * bend)


def _legs_sit(rng: Random, rotations: Array) -> None:
    rotations[0] = turn("x", rng.normal(-8, 10))
    for hip, knee, side in ((1, 4, 1), (2, 5, -1)):
        lift = rng.normal(84, 8)
        spread = turn("y", side * rng.uniform(-4, 25))
        rotations[hip] = spread @ turn("x", -lift)
        rotations[knee] = turn("x", lift + rng.normal(0, 12))


def _legs_squat(rng: Random, rotations: Array) -> None:
    depth = rng.uniform(50, 125)
    rotations[0] = turn("x", depth * 0.25)
    for hip, knee, ankle, side in ((1, 4, 7, 1), (2, 5, 8, -1)):
        rotations[hip] = turn("y", side * rng.uniform(0, 30)) @ turn("x", -depth * 0.95)
        rotations[knee] = turn("x", depth * 1.1)
        rotations[ankle] = turn("x", -depth * 0.35)


def _legs_kneel(rng: Random, rotations: Array) -> None:
    rotations[1], rotations[4] = turn("x", rng.normal(-85, 8)), turn("x", rng.normal(85, 8))
    rotations[2], rotations[5] = turn("x", rng.normal(5, 8)), turn("x", rng.normal(90, 8))
    rotations[8] = turn("x", 30)
    if rng.random() < 0.4:
        rotations[1], rotations[4], rotations[7] = rotations[2], rotations[5], rotations[8]


def _legs_lunge(rng: Random, rotations: Array) -> None:
    step = rng.uniform(15, 60)
    rotations[1], rotations[4] = turn("x", -step), turn("x", step * rng.uniform(0.2, 1.4))
    rotations[2], rotations[5] = turn("x", step * 0.7), turn("x", rng.uniform(0, 40))
    rotations[8] = turn("x", rng.uniform(0, 25))


def _legs_bend(rng: Random, rotations: Array) -> None:
    """Bent forward over legs that stand, side by side or one before the other."""
    bend = rng.uniform(20, 105)
    rotations[0] = turn("x", bend)
    step = rng.uniform(0, 45)
    for hip, knee, side, ahead in ((1, 4, 1, step), (2, 5, -1, -step)):
        rotations[hip] = turn("z", side * rng.uniform(0, 20)) @ turn("x", -bend - ahead)
        rotations[knee] = turn("x", abs(rng.normal(0.3 * step, 15)))


def _legs_floor_sit(rng: Random, rotations: Array) -> None:
    """Sitting on the floor, legs stretched out, drawn up or one of each."""
    back = rng.normal(-10, 15)
    rotations[0] = turn("x", back)
    for hip, knee, side in ((1, 4, 1), (2, 5, -1)):
        fold = float(rng.choice([abs(rng.normal(0, 12)), rng.uniform(30, 135)]))
        rotations[hip] = turn("y", side * rng.uniform(-5, 45)) @ turn("x", -85 - back - 0.45 * fold)
        rotations[knee] = turn("x", fold)


def _legs_floor(rng: Random, rotations: Array) -> None:
    """Lying on the back, the front or a side, or half upright."""
    back = float(rng.choice([rng.normal(-15, 10), rng.normal(-85, 5), rng.normal(85, 5)]))
    roll = float(rng.choice([0.0, rng.uniform(-90, 90)]))
    rotations[0] = turn("x", back) @ turn("y", roll)
    for hip, knee, side in ((1, 4, 1), (2, 5, -1)):
        lift = rng.uniform(0, 110)
        rotations[hip] = turn("y", side * rng.uniform(-5, 40)) @ turn("x", -lift)
        rotations[knee] = turn("x", min(max(rng.normal(lift, 25), 0), 140))


def _legs_all_fours(rng: Random, rotations: Array) -> None:
    """On hands and knees or hands and feet, maybe with a leg stretched out behind."""
    pitch = rng.normal(80, 15)
    rotations[0] = turn("x", pitch)
    on_knees = rng.random() < 0.5
    for hip, knee, ankle, side in ((1, 4, 7, 1), (2, 5, 8, -1)):
        lift, fold = rng.normal(pitch, 18), rng.normal(92, 14) if on_knees else rng.uniform(0, 75)
        if rng.random() < 0.25:
            lift, fold = pitch - rng.uniform(25, 75), abs(rng.normal(0, 15))
        rotations[hip] = turn("z", side * rng.uniform(-5, 20)) @ turn("x", -lift)
        rotations[knee] = turn("x", max(fold, 0.0))
        rotations[ankle] = turn("x", rng.uniform(-20, 40))


def _legs_crossed(rng: Random, rotations: Array) -> None:
    """Sitting on the floor with both knees out and the feet drawn in, or both to one side."""
    back = rng.normal(-5, 12)
    rotations[0] = turn("x", back)
    aside = rng.random() < 0.3
    for hip, knee, side in ((1, 4, 1), (2, 5, -1)):
        out, roll = rng.uniform(25, 60), rng.uniform(25, 60)
        if aside:
            out, roll = -side * out, -side * roll
        lift = turn("x", -rng.normal(85 + back, 10))
        rotations[hip] = turn("y", side * out) @ lift @ turn("y", side * roll)
        rotations[knee] = turn("x", rng.uniform(85, 140))


_LEGS = {
    "stand": _legs_stand, "sit": _legs_sit, "squat": _legs_squat, "kneel": _legs_kneel,
    "lunge": _legs_lunge, "bend": _legs_bend, "floor_sit": _legs_floor_sit, "floor": _legs_floor,
    "all_fours": _legs_all_fours, "crossed": _legs_crossed,
}  # fmt: skip
LEG_SHARES = {
    "stand": 0.22, "sit": 0.22, "squat": 0.08, "kneel": 0.08, "lunge": 0.08, "bend": 0.12,
    "floor_sit": 0.12, "floor": 0.08,
}  # fmt: skip
LOW_SHARES = {
    "floor_sit": 0.3, "floor": 0.18, "all_fours": 0.2, "crossed": 0.1, "kneel": 0.06, "squat": 0.06,
    "bend": 0.1,
}  # fmt: skip
SPINE_LEAN = {
    "sit": (8, 15), "squat": (15, 15), "bend": (20, 25), "floor_sit": (20, 25), "crossed": (15, 20),
    "all_fours": (0, 20),
}  # fmt: skip
"""Mean and deviation of the spine's bend forwards [degrees]; (0, 10) for the others."""


ARMS = {
    "hang": ((72, 5, 12, 0), (7, 15, 12, 20)),
    "hip": ((48, -15, 85, 60), (8, 10, 12, 10)),
    "front": ((60, 30, 80, 20), (10, 15, 25, 25)),
    "reach": ((10, 70, 20, 0), (25, 20, 15, 25)),
    "raise": ((-45, 20, 45, -60), (25, 30, 35, 30)),
    "fold": ((58, 35, 105, 55), (6, 8, 8, 8)),
    "behind": ((58, -45, 12, 0), (12, 15, 12, 25)),
    "below": ((5, 85, 15, 0), (15, 15, 15, 25)),
}  # fmt: skip
"""Arm postures: mean and deviation of lowering, reaching forward, elbow and roll [degrees]."""


ARM_SHARES = (0.36, 0.1, 0.2, 0.14, 0.12, 0.08, 0.0, 0.0)
PROPPED = {
    "all_fours": (0.85, "below"), "floor_sit": (0.25, "behind"), "crossed": (0.15, "behind"),
}  # fmt: skip
"""How often an arm holds the body up, and how."""


def _propped(rng: Random, kind: str) -> str | None:
    """The arm posture that goes with a way to hold the legs; None for any."""
    share, arm = PROPPED.get(kind, (0.0, None))
    return arm if share and rng.random() < share else None


def hold_arm(rng: Random, rotations: Array, side: int, kind: str | None = None) -> None:
    """Pose one arm of (24, 3, 3) in place as one of `ARMS`, at random where not said.

    Side 1 is left, -1 right.
    """
    collar, shoulder, elbow, wrist = LEFT_ARM if side == 1 else RIGHT_ARM
    kind = kind or str(rng.choice(list(ARMS), p=ARM_SHARES))
    means, spreads = ARMS[kind]
    down, forward, bend, roll = rng.normal(means, spreads)
    bend = abs(bend)
    rotations[collar] = turn("z", -side * 0.22 * down)
    lowered = turn("z", -side * 0.78 * down)
    swung = turn("x", -forward) if down > 30 else turn("y", -side * forward)
    rotations[shoulder] = swung @ lowered @ turn("x", roll)
    rotations[elbow] = turn("y", -side * bend)
    rotations[wrist] = turn("x", rng.normal(0, 30)) @ turn("z", rng.normal(0, 12))
