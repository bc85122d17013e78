"""people: one synthetic person from pose, shape and outfit to meshes in the camera frame.

In   pose, betas, Outfit, place on the ground, View
Out  `Figure`: the truth (camera-frame rotations, betas, transl) and the meshes to draw
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mpmesh_core.training.synthetic.appearance import Outfit, Wardrobe
from mpmesh_core.training.synthetic.layout import View
from mpmesh_core.training.synthetic.shading import LAYERS
from mpmesh_core.training.synthetic.skinning import FastBody, Skeleton, skin

Array = np.ndarray


@dataclass(frozen=True)
class Piece:
    """One mesh to draw, in the camera frame."""

    vertices: Array  # (V, 3) float32 [m]
    faces: Array  # (F, 3) int32
    rest: Array  # (V, 3) float32 [m] where patterns are drawn
    fields: Array | None  # (V, 7), None for one material all over
    materials: Array  # (8, 24) or (1, 24)


@dataclass(frozen=True)
class Figure:
    """One person in the camera frame."""

    rotations: Array  # (24, 3, 3) float32 truth, joint 0 in the camera frame
    betas: Array  # (10,) float32
    transl: Array  # (3,) float32 [m]
    points: Array  # (29, 3) joints and tips, camera frame [m]
    pieces: list[Piece]  # the body first
    source: str


@dataclass(frozen=True)
class Stance:
    """A posed, dressed person in world axes, standing at the origin of the ground."""

    rotations: Array  # (24, 3, 3) local, joint 0 in the world
    betas: Array
    outfit: Outfit
    skeleton: Skeleton
    body: Array  # (V, 3) clothed vertices, pelvis at the origin
    pelvis: Array  # (3,) [m] height of the pelvis over the ground, 0 sideways
    source: str


def make_stance(
    wardrobe: Wardrobe, rotations: Array, betas: Array, outfit: Outfit, source: str,
    raised: float = 0.0,
) -> Stance:  # fmt: skip
    """Pose and dress a person; the lowest vertex comes to stand `raised` [m] over the ground."""
    body: FastBody = wardrobe.body
    skeleton = body.skeleton(rotations, betas)
    rest = wardrobe.clothed(outfit, body.shaped(betas)).astype(np.float32)
    vertices = skin(skeleton, rest, body.bones, body.weights)
    pelvis = np.array([0, raised - vertices[:, 1].min(), 0])
    return Stance(rotations, betas, outfit, skeleton, vertices, pelvis, source)


def place(wardrobe: Wardrobe, stance: Stance, spot: Array, view: View) -> Figure:
    """Put a person at a spot (x left, z forward) of the ground and look at them."""
    R = view.R_cam_world.astype(np.float32)
    pelvis = view.to_camera(stance.pelvis + np.array([spot[0], 0, spot[1]]))

    def to_camera(local: Array) -> Array:
        return (local @ R.T + pelvis).astype(np.float32)

    rotations = stance.rotations.astype(np.float32).copy()
    rotations[0] = R @ rotations[0]
    transl = pelvis - wardrobe.body.rest_points(stance.betas)[0]
    return Figure(
        rotations,
        stance.betas.astype(np.float32),
        transl.astype(np.float32),
        to_camera(stance.skeleton.points),
        _pieces(wardrobe.body, stance, to_camera),
        stance.source,
    )


def _pieces(body: FastBody, stance: Stance, to_camera: Callable[[Array], Array]) -> list[Piece]:
    """The clothed body and the loose parts of a person."""
    outfit = stance.outfit
    skin_and_clothes = outfit.materials[:LAYERS]
    shown = to_camera(stance.body)
    pieces = [Piece(shown, body.faces, body.template, outfit.fields, skin_and_clothes)]
    growth = body.shapedirs @ stance.betas.astype(np.float32)
    for part in outfit.parts:
        mesh = part.mesh
        rest = mesh.vertices + growth[part.anchors]
        shown = to_camera(skin(stance.skeleton, rest, mesh.bones, mesh.weights))
        pieces.append(
            Piece(shown, mesh.faces, mesh.vertices, None, outfit.materials[part.slot][None])
        )
    return pieces
