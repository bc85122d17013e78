"""depth: distances from a depth image, where a camera gives one; everything else stays.

In   bodies of N people and a depth image (H, W) [m] that is aligned to the picture
Out  the same bodies, moved along their lines of sight to where their surface was measured

A body's front, as the picture shows it, is compared with the depth image. Somebody in front of the
person gives smaller depths, the room behind larger ones, so what most of the front agrees on is
taken. Who has no such agreement stays. Sizes aren't changed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import roma
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.camera import Camera
from mpmesh_core.errors import InputError
from mpmesh_core.types import Array, Bodies, Person

REACH = 2.0  # how far a body may be moved [m]
STEP = 0.05  # of the histogram of depth differences [m]
CELL = 6  # side of the cells in which the nearest vertex hides the others [px]
SKIN = 0.06  # how far behind that one a vertex still belongs to the front [m]
LEAST_SHARE, LEAST_POINTS = 0.15, 40  # of the front that must agree
RANGE_SIGMA = 0.03  # of a distance so found [m]


def anchor_to_depth(body: BodyModel, bodies: Bodies, depth: Array, camera: Camera) -> Bodies:
    """Move bodies to their measured distance.

    Args:
        body: the body model they are parameters of.
        bodies: N people.
        depth: (H, W) floating point [m] along the optical axis; 0, NaN or inf where nothing was
            measured.
        camera: of the picture and the depth image.

    Raises:
        InputError: a depth image of another size than the picture, or of whole numbers, which
            are millimetres as a rule.
    """
    if not np.issubdtype(depth.dtype, np.floating):
        raise InputError(
            f"a depth image must be floating point metres, got {depth.dtype}: divide millimetres "
            "by 1000.0"
        )
    if depth.shape != (camera.height, camera.width):
        raise InputError(
            f"the depth image is {depth.shape[1]}x{depth.shape[0]}, the picture is "
            f"{camera.width}x{camera.height}; it must be aligned to the picture"
        )
    posed = body(bodies.rotations, bodies.betas, bodies.transl)
    assert posed.vertices is not None
    pelvis = posed.joints[:, 0]
    shift, agreed = depth_shift(posed.vertices.cpu().numpy(), depth, camera)
    z = pelvis[:, 2:]
    dz = torch.as_tensor(shift).to(z)[:, None]
    agreed_ = torch.as_tensor(agreed).to(z.device)[:, None]
    moved = bodies.transl + pelvis * torch.where(agreed_, dz / z, torch.zeros_like(z))
    ray = torch.nn.functional.normalize(pelvis, dim=-1)[:, :, None]  # (N, 3, 1)
    across = torch.eye(3).to(ray) - ray @ ray.transpose(1, 2)
    measured = across @ bodies.covariance @ across + RANGE_SIGMA**2 * ray @ ray.transpose(1, 2)
    covariance = torch.where(agreed_[:, :, None], measured, bodies.covariance)
    return replace(bodies, transl=moved, covariance=covariance)


def anchor_people(
    body: BodyModel, people: list[Person], depth: Array, camera: Camera
) -> list[Person]:
    """The same for finished people: whatever has a place in the camera's frame moves along.

    Args, errors: as for `anchor_to_depth`.
    """
    if not people:
        return []
    device = body.faces.device
    rotvecs = np.stack([np.append(p.global_orient, p.body_pose) for p in people])
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(rotvecs).to(device).unflatten(1, (24, 3)))
    betas, transl, covariance, residual = (
        torch.from_numpy(np.stack([getattr(person, name) for person in people])).to(device)
        for name in ("betas", "transl", "position_covariance", "fit_residual")
    )
    bodies = Bodies(rotations, betas, transl, covariance, residual)
    anchored = anchor_to_depth(body, bodies, depth, camera)
    coco = body.keypoints(rotations, betas, anchored.transl, "coco17").cpu().numpy()
    moves = (anchored.transl - transl).cpu().numpy()
    sigmas = anchored.covariance.cpu().numpy()
    return [
        _moved(person, move, sigma, points, camera)
        for person, move, sigma, points in zip(people, moves, sigmas, coco)
    ]


def _moved(person: Person, move: Array, covariance: Array, coco: Array, camera: Camera) -> Person:
    joints = person.joints + move
    return replace(
        person,
        transl=person.transl + move,
        position=person.position + move,
        position_covariance=covariance,
        joints=joints,
        h36m=person.h36m + move,
        joints_2d=camera.project(joints),
        coco_2d=camera.project(coco),
        vertices=None if person.vertices is None else person.vertices + move,
    )


def depth_shift(vertices: Array, depth: Array, camera: Camera) -> tuple[Array, Array]:
    """How much farther people are than their meshes.

    Args:
        vertices: (N, V, 3) [m, camera frame].
        depth: (H, W) [m].
        camera: of both.

    Returns:
        (N,) shift of the depth [m], 0 where unknown; (N,) bool, where it is known.
    """
    front, measured = _front_depths(vertices, depth, camera)
    difference = np.where(front, measured - vertices[..., 2], np.nan)  # (N, V)
    bins = round(2 * REACH / STEP)
    with np.errstate(invalid="ignore"):
        row = np.floor((difference + REACH) / STEP)
        usable = np.isfinite(row) & (row >= 0) & (row < bins)
    counts = np.zeros((len(vertices), bins + 2), np.int64)
    people, points = np.nonzero(usable)
    np.add.at(counts, (people, row[people, points].astype(np.int64) + 1), 1)
    around = counts[:, :-2] + counts[:, 1:-1] + counts[:, 2:]  # neighbours together
    best = around.argmax(1)
    centre = (best + 0.5) * STEP - REACH
    near = usable & (np.abs(difference - centre[:, None]) < 1.5 * STEP)
    enough = np.maximum(LEAST_SHARE * front.sum(1), LEAST_POINTS)
    agreed = near.sum(1) >= enough
    total = np.where(near, difference, 0.0).sum(1)
    return np.where(agreed, total / np.maximum(near.sum(1), 1), 0.0), agreed


def _front_depths(vertices: Array, depth: Array, camera: Camera) -> tuple[Array, Array]:
    """Which vertices (N, V) the picture shows and the depth image measured, and how far away."""
    height, width = depth.shape
    pixels = np.rint(np.nan_to_num(camera.project(vertices), nan=-1.0))
    u, v = pixels[..., 0], pixels[..., 1]
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (vertices[..., 2] > 0)
    u, v = (np.where(inside, value, 0).astype(np.int64) for value in (u, v))
    columns = width // CELL + 1
    cells = (height // CELL + 1) * columns
    person = np.arange(len(vertices))[:, None]
    cell = person * cells + (v // CELL) * columns + u // CELL
    nearest = np.full(len(vertices) * cells, np.inf)
    np.minimum.at(nearest, cell[inside], vertices[..., 2][inside])
    measured = depth[v, u]
    known = np.isfinite(measured) & (measured > 0)
    return inside & known & (vertices[..., 2] <= nearest[cell] + SKIN), measured
