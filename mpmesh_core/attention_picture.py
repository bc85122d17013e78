"""attention_picture: who looks at whom in the refiner (Fig. 3 of the paper).

In   the picture (H, W, 3) uint8 RGB and its FrameResult with `stages`
Out  (H', W', 3) uint8 RGB: a row for each refined person, a panel for each of some joints

Lines lead from the joint to all joints of the person and of those whom its run reads; the brighter
and thicker, the more the joint takes from there. A panel's brightest line is its strongest;
brightness and thickness follow the square of the share, so that the strong ones stand out.
"""

from __future__ import annotations

import cv2
import numpy as np

from mpmesh_core.canvas import draw_pill, person_colour
from mpmesh_core.joints import SMPL_JOINTS, SMPL_PARENTS
from mpmesh_core.stage_strip import draw_line, seen_people, tiled
from mpmesh_core.types import FrameResult, Person, Stages

Array = np.ndarray
JOINTS = ("head", "left_wrist", "pelvis", "right_ankle")
MOST_ROWS = 4  # people a picture, the largest first
PANEL = (480, 400)  # (width, height) [px]
_DIMMED = 0.35
_MARGIN = 0.1  # of the panel around the people
_FAINT = 0.04  # lines weaker than this are left out, the strongest being 1
_THICKEST = 4  # [px]


def draw_attention(image: Array, result: FrameResult) -> Array | None:
    """Draw one frame; None where nobody was refined.

    Args:
        image: (H, W, 3) uint8 RGB, the picture that the result is of.
        result: the people, from a pipeline that keeps stages.
    """
    people = {s.place: (p, s) for p, s in seen_people(result) if np.isfinite(s.attention).all()}
    largest = sorted(people.values(), key=lambda found: -float(np.ptp(found[0].joints_2d, 0).max()))
    if not largest:
        return None
    panels = [
        _panel(image, person, stages, [people.get(int(place)) for place in stages.context], joint)
        for person, stages in largest[:MOST_ROWS]
        for joint in JOINTS
    ]
    return tiled(panels, columns=len(JOINTS))


def _panel(
    image: Array,
    person: Person,
    stages: Stages,
    read: list[tuple[Person, Stages] | None],
    name: str,
) -> Array:
    """One joint of one person."""
    points = [None if other is None else other[0].joints_2d for other in read]
    known = np.concatenate([p for p in points if p is not None])
    panel, zoom, corner = _cut_out(image, known)
    joint = SMPL_JOINTS.index(name)
    shares = stages.attention[joint]  # (N, 24)
    for other in read:
        if other is not None:
            _draw_bones(panel, (other[0].joints_2d - corner) * zoom, other[0], other[1])
    start = (person.joints_2d[joint] - corner) * zoom
    lines = [
        (float(share), (end - corner) * zoom)
        for ends, row in zip(points, shares)
        if ends is not None
        for end, share in zip(ends, row)
    ]
    strongest = max(share for share, _ in lines)
    for share, end in sorted(lines, key=lambda line: line[0]):
        part = (share / strongest) ** 2
        if part > _FAINT:
            draw_line(panel, start, end, _heat(part), max(1, round(_THICKEST * part)))
    draw_line(panel, start, start, (255, 255, 255), 9)
    told = []
    for other, row in zip(read, shares):
        if other is not None:
            who = "self" if other[0] is person else _label(other[0], other[1])
            told.append(f"{who} {100 * row.sum():.0f} %")
    text = PANEL[0] / 48
    colour = person_colour(_number(person, stages))
    title = f"{name.replace('_', ' ')}: {', '.join(told)}"
    draw_pill(panel, title, (round(text), round(text)), text, colour)
    return panel


def _cut_out(image: Array, points: Array) -> tuple[Array, float, Array]:
    """A dim part around points [px], how much it is enlarged, and where it begins [px]."""
    limit = np.array([image.shape[1], image.shape[0]], np.float64)
    inside = np.clip(points, 0, limit - 1)
    low, high = inside.min(axis=0), inside.max(axis=0)
    panel = np.array(PANEL, np.float64)
    zoom = float((panel / np.maximum((high - low) * (1 + 2 * _MARGIN), 32.0)).min())
    size = panel / zoom
    corner = 0.5 * (low + high - size)
    fits = size <= limit  # then the part stays inside the picture
    corner = np.where(fits, np.clip(corner, 0, np.maximum(limit - size, 0)), corner)
    warp = np.array([[zoom, 0, -zoom * corner[0]], [0, zoom, -zoom * corner[1]]])
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    smooth = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    cut = cv2.warpAffine(grey, warp, PANEL, flags=smooth)
    return (cut * _DIMMED).astype(np.uint8), zoom, corner


def _draw_bones(panel: Array, pixels: Array, person: Person, stages: Stages) -> None:
    colour = person_colour(_number(person, stages))
    for child, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            draw_line(panel, pixels[parent], pixels[child], colour, 1)


def _heat(part: float) -> tuple[int, ...]:
    """RGB of a part 0..1 of the strongest, dark red to bright yellow."""
    level = np.array([[round(60 + 195 * part)]], np.uint8)
    return tuple(int(v) for v in cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[0, 0, ::-1])


def _number(person: Person, stages: Stages) -> int:
    """Identity, or place among the detections where nobody tracks."""
    return person.track_id if person.track_id >= 0 else stages.place


def _label(person: Person, stages: Stages) -> str:
    return f"no. {_number(person, stages)}"
