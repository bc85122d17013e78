"""cli.data_sheet: a contact sheet of a data set with its labels drawn.

In   FrameRecords
Out  a PNG: per cell one picture; boxes, 2D labels as dots (green), projected 3D as sticks (orange:
     left, blue: right and middle), projected body points as small white dots
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch

from mpmesh_core.body import load_body
from mpmesh_core.canvas import put_text
from mpmesh_core.datasets.conventions import CONVENTIONS
from mpmesh_core.datasets.pictures import PictureReader
from mpmesh_core.datasets.record import FrameRecord, PersonRecord
from mpmesh_core.errors import InputError
from mpmesh_core.outputs import prepare_folder, write_file
from mpmesh_core.training.dataset_people import TargetBody, rotations_of
from mpmesh_core.types import Array

CELL = (480, 400)  # [px] width, height
COLUMNS = 4
_BOX, _DOT, _LEFT, _OTHER = (250, 220, 60), (70, 220, 90), (250, 130, 40), (70, 150, 255)
_WHITE = (255, 255, 255)
_MARGIN = 0.35  # of the people's common box, around it
_SHARPER = 16  # lines and dots are drawn to a sixteenth of a pixel
_SHIFT = 4


def write_sheet(path: Path, records: Iterable[FrameRecord]) -> None:
    """Draw records, a cell each, cut to where their people are.

    Raises:
        InputError: no records.
    """
    reader, body = PictureReader(), TargetBody(load_body("open"))
    cells = [_cell(reader.of(record), record, body) for record in records]
    if not cells:
        raise InputError("no frame to draw")
    columns = min(COLUMNS, len(cells))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[at : at + columns]) for at in range(0, len(cells), columns)]
    _, png = cv2.imencode(".png", cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
    write_file(prepare_folder(path.parent) / path.name, png.tobytes())


def _cell(picture: Array, record: FrameRecord, body: TargetBody) -> Array:
    """One record's part of the picture, as large as fits a cell."""
    low, high = _window(record)
    scale = min(CELL[0] / (high[0] - low[0]), CELL[1] / (high[1] - low[1]))
    part = picture[low[1] : high[1], low[0] : high[0]]
    size = np.maximum(np.round((high - low) * scale), 1).astype(int)
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    drawn = cv2.resize(part, tuple(map(int, size)), interpolation=flags)
    for person in (p for p in record.people if np.isfinite(p.box).all()):
        _draw_person(drawn, person, record, body, low, scale)
    cell = np.zeros((CELL[1], CELL[0], 3), np.uint8)
    height, width = min(size[1], CELL[1]), min(size[0], CELL[0])
    cell[:height, :width] = drawn[:height, :width]
    put_text(cell, f"{record.sequence} {record.number}", 6, CELL[1] - 8, 10, _WHITE)
    return cell


def _window(record: FrameRecord) -> tuple[Array, Array]:
    """Corners [px] of the part with the people who have boxes; of the whole picture without."""
    limit = np.array([record.width, record.height])
    boxes = np.array([p.box for p in record.people if np.isfinite(p.box).all()])
    if not len(boxes):
        return np.zeros(2, int), limit
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    margin = _MARGIN * (high - low).max()
    low = np.clip(np.floor(low - margin), 0, limit - 2).astype(int)
    return low, np.clip(np.ceil(high + margin), low + 2, limit).astype(int)


def _draw_person(
    drawn: Array,
    person: PersonRecord,
    record: FrameRecord,
    body: TargetBody,
    low: Array,
    scale: float,
) -> None:
    def moved(pixels: Array) -> Array:
        return (pixels[:, :2] - low + 0.5) * scale - 0.5

    corners = moved(person.box.reshape(2, 2))
    _line(drawn, corners[0], corners[1] * (1, 0) + corners[0] * (0, 1), _BOX)
    _line(drawn, corners[1] * (1, 0) + corners[0] * (0, 1), corners[1], _BOX)
    _line(drawn, corners[1], corners[0] * (1, 0) + corners[1] * (0, 1), _BOX)
    _line(drawn, corners[0] * (1, 0) + corners[1] * (0, 1), corners[0], _BOX)
    if record.camera is not None:
        for name, points in person.points3d.items():
            if CONVENTIONS[name].family == "rescaled":
                continue  # not where the picture shows the person
            pixels = moved(record.camera.project(points[:, :3].astype(np.float64)))
            _sticks(drawn, pixels, (points[:, 3] > 0) & (points[:, 2] > 0), name)
        if person.smpl is not None and body.same(person.smpl):
            label = person.smpl
            betas, transl = (
                torch.as_tensor(values, dtype=torch.float32)
                for values in (label.betas, label.transl)
            )
            points = body.model(rotations_of(label), betas, transl, vertices=False).points
            pixels = moved(record.camera.project(points.numpy()))
            _sticks(drawn, pixels, points[:, 2].numpy() > 0, "points")
    for name, points in person.points2d.items():
        known = points[:, 2] > 0
        if name not in person.points3d:
            _sticks(drawn, moved(points), known, name)
        for place in moved(points)[known]:
            _dot(drawn, place)


def _sticks(drawn: Array, pixels: Array, known: Array, name: str) -> None:
    convention = CONVENTIONS[name]
    for a, b in convention.bones:
        if known[a] and known[b]:
            left = convention.names[b].startswith("left")
            _line(drawn, pixels[a], pixels[b], _LEFT if left else _OTHER)


def _line(drawn: Array, start: Array, end: Array, colour: tuple[int, int, int]) -> None:
    ends = [_fixed(start), _fixed(end)]
    cv2.line(drawn, ends[0], ends[1], colour, 1, cv2.LINE_AA, _SHIFT)


def _dot(drawn: Array, place: Array) -> None:
    cv2.circle(drawn, _fixed(place), 2 * _SHARPER, _DOT, -1, cv2.LINE_AA, _SHIFT)


def _fixed(place: Array) -> tuple[int, int]:
    x, y = np.clip(np.round(place * _SHARPER), -(1 << 20), 1 << 20).astype(int)
    return int(x), int(y)
