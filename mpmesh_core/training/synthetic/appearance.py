"""appearance: what a person wears, painted on the body and on shells around it.

Clothes are fields over the body's rest surface (see `shading`): positive where the garment covers.
The same fields lift the surface off the skin, so clothes have thickness, folds and hems; skirts,
long hair, bags and hats are loose parts on the skeleton (`parts`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from mpmesh_core.rasterizer import vertex_normals
from mpmesh_core.training.synthetic import parts
from mpmesh_core.training.synthetic.parts import LoosePart
from mpmesh_core.training.synthetic.shading import LAYERS
from mpmesh_core.training.synthetic.skinning import FastBody
from mpmesh_core.training.synthetic.textures import (
    BLUE,
    CENTRE_Y,
    EYE_X,
    EYE_Y,
    EYE_Z,
    GRAPHIC,
    IRIS,
    MOUTH_Y,
    PATCH_INDEX,
    PATTERN,
    RED,
    SCALE,
    SKIN,
    Textures,
    hair_tone,
    material,
    skin_tone,
)  # fmt: skip

Array = np.ndarray
Random = np.random.Generator

HAIR, SOCKS, SHOES, TROUSERS, SHIRT, JACKET, GLOVES = range(7)  # fields, inner to outer
HAT, BAG = range(LAYERS, LAYERS + 2)  # materials of loose parts that are no layer of the body
NOWHERE = -1.0


@dataclass(frozen=True)
class Outfit:
    """One person's looks."""

    lift: Array  # (V,) float32 [m] of the rest surface along its normal
    smooth: float  # 0..1, how far clothes bridge the hollows of the body
    fields: Array  # (V, 7) float32 [m], positive inside a garment
    materials: Array  # (10, 24) float32: skin, the garments, hat and bag
    parts: list[LoosePart]
    one_piece: bool  # shirt and trousers are of one stuff: a dress, an overall
    covered: Array  # (V,) bool, clothed by shirt, trousers or jacket


class Wardrobe:
    """Places on a body where garments begin and end; made once a body."""

    def __init__(self, body: FastBody, face_points: Array | None = None) -> None:
        """Args: body; face_points: nose, left eye, right eye (3, 3) at rest, if they are known."""
        self.body = body
        self.rest = body.template
        self.normals = vertex_normals(self.rest, body.faces)
        points = body.point_mean
        self.neck, self.shoulder, self.hip, self.knee, self.ankle = points[[12, 16, 1, 4, 7]]
        self.elbow_x, self.wrist_x = points[18, 0], points[20, 0]
        self.head, self.top, self.toe = points[15], points[24], points[27]
        self.sole_y = self.rest[:, 1].min()
        self.face = self._guess_face() if face_points is None else face_points
        on_arm = body.weights * np.isin(body.bones, (16, 17, 18, 19, 20, 21, 22, 23))
        self.arm = on_arm.sum(1)
        self.relax = _laplacian(body.faces, len(self.rest))
        self.hollow = self._hollows()
        self.phases = self.rest * [1, 1, 1.3]
        self._tree = cKDTree(self.rest)

    def _guess_face(self) -> Array:
        tall = self.top[1] - self.head[1]
        front = self.rest[np.abs(self.rest[:, 0]) < 0.03]
        height = self.head[1] + 0.3 * tall
        nose = front[np.argmax(front[:, 2] - 9 * np.abs(front[:, 1] - height))]
        eye = nose + np.array([0.032, 0.04, -0.03])
        return np.stack([nose, eye, eye * [-1, 1, 1]])

    def _hollows(self) -> Array:
        """Depth of each vertex under a much smoother surface (V,) [m]; 0 where it stands out."""
        smooth = self.rest
        for _ in range(40):
            smooth = self.relax @ smooth
        return np.clip(np.einsum("vc,vc->v", smooth - self.rest, self.normals), 0, 0.03)

    def nearest(self, vertices: Array) -> Array:
        """Index of the nearest body vertex (N,) for points (N, 3) at rest."""
        return self._tree.query(vertices)[1].astype(np.int32)

    def dress(self, rng: Random, textures: Textures) -> Outfit:
        """Put together one outfit."""
        fields = np.full((len(self.rest), LAYERS - 1), NOWHERE, np.float32)
        loose: list[LoosePart] = []
        self._hair(rng, fields, loose)
        self._shirt(rng, fields)
        self._trousers(rng, fields)
        one_piece = rng.random() < 0.08
        if rng.random() < 0.14:
            one_piece = rng.random() < 0.5
            self._skirt(rng, fields, loose, one_piece)
        self._feet(rng, fields)
        if rng.random() < 0.3:
            self._jacket(rng, fields)
        if rng.random() < 0.05:
            fields[:, GLOVES] = np.abs(self.rest[:, 0]) - self.wrist_x * rng.uniform(0.93, 1.0)
        if rng.random() < 0.12:
            loose.append(parts.backpack(rng, self, BAG))
        if rng.random() < 0.12:
            loose.extend(parts.hat(rng, self, HAT))
        lift = self._lift(rng, fields)
        covered = np.any(fields[:, [TROUSERS, SHIRT, JACKET]] > 0, axis=1)
        bare = Outfit(lift, rng.uniform(0.3, 1.0), fields, np.zeros(0), loose, one_piece, covered)
        return self.recolour(rng, bare, textures)

    def recolour(self, rng: Random, outfit: Outfit, textures: Textures) -> Outfit:
        """The same cut in other colours and patterns."""
        hair = material(colour=hair_tone(rng), bump=0.5, bump_scale=0.12, mottle=0.25, shine=0.1,
                        gloss=12)  # fmt: skip
        plain, fancy = textures.plain, textures.fancy
        materials = plain[rng.integers(len(plain), size=LAYERS + 2)]
        materials[0] = self._skin(rng, hair)
        materials[1 + HAIR] = hair
        materials[[1 + SHIRT, 1 + JACKET]] = fancy[rng.integers(len(fancy), size=2)]
        if rng.random() < 0.2:
            self._print_picture(rng, materials[1 + SHIRT], len(textures.patches))
        if outfit.one_piece:
            materials[1 + TROUSERS] = materials[1 + SHIRT]
        elif rng.random() < 0.35:
            materials[1 + TROUSERS] = fancy[rng.integers(len(fancy))]
        return replace(outfit, materials=materials)

    def _skin(self, rng: Random, hair: Array) -> Array:
        tone = skin_tone(rng)
        row = material(pattern=SKIN, colour=tone, second=hair[RED : BLUE + 1], bump=0.06,
                       bump_scale=0.35, mottle=0.05, shine=rng.uniform(0.02, 0.08),
                       gloss=10)  # fmt: skip
        nose, left_eye, _ = self.face
        row[[EYE_X, EYE_Y, EYE_Z]] = left_eye
        row[MOUTH_Y] = nose[1] - 0.036
        row[IRIS] = rng.choice([0.0, 1.0, 3.0])
        return row

    def _print_picture(self, rng: Random, row: Array, patches: int) -> None:
        """Make a material (24,) one of a picture on the chest."""
        row[PATTERN], row[SCALE] = GRAPHIC, rng.uniform(0.12, 0.3)
        row[CENTRE_Y] = self.neck[1] - rng.uniform(0.17, 0.3)
        row[PATCH_INDEX] = rng.integers(patches)

    def _hair(self, rng: Random, fields: Array, loose: list[LoosePart]) -> None:
        if rng.random() < 0.06:
            return
        y, z = self.rest[:, 1], self.rest[:, 2]
        middle = 0.5 * (self.head + self.top)
        tilt = rng.uniform(0.25, 0.75)
        line = (y - middle[1]) * (1 - tilt) - (z - middle[2]) * tilt - rng.uniform(-0.015, 0.02)
        crown = y - (self.face[1, 1] + rng.uniform(0.045, 0.065))  # the forehead stays free
        length = rng.choice([rng.uniform(0.02, 0.06), rng.uniform(-0.02, 0.02)])
        back = np.where(z > middle[2] + 0.035, crown, y - (self.head[1] + length))
        temples = np.where(z > middle[2] + 0.07, -1.0, 1.0)
        fields[:, HAIR] = np.minimum(np.maximum(np.minimum(line, temples), crown), back)
        if rng.random() < 0.3:
            loose.append(parts.long_hair(rng, self, 1 + HAIR))

    def _shirt(self, rng: Random, fields: Array) -> None:
        x, y, z = np.abs(self.rest[:, 0]), self.rest[:, 1], self.rest[:, 2]
        hem = self.hip[1] + rng.uniform(-0.12, 0.12)
        sleeve = rng.choice(
            [self.shoulder[0] + rng.uniform(-0.03, 0.02),
             self.elbow_x * rng.uniform(0.75, 1.05), self.wrist_x * rng.uniform(0.93, 1.0)],
            p=[0.12, 0.48, 0.4],
        )  # fmt: skip
        depth = rng.choice([0.0, rng.uniform(0.0, 0.12)])
        collar = self.neck[1] + rng.uniform(-0.04, 0.03) + 1.2 * np.maximum(x - 0.06, 0)
        collar = collar - np.where(z > 0, depth * np.exp(-((x / 0.08) ** 2)), 0)
        fields[:, SHIRT] = np.minimum(np.minimum(y - hem, sleeve - x), collar - y)

    def _trousers(self, rng: Random, fields: Array) -> None:
        y = self.rest[:, 1]
        waist = self.hip[1] + rng.uniform(0.08, 0.16)
        end = rng.choice(
            [self.ankle[1] + rng.uniform(-0.05, 0.06), self.knee[1] + rng.uniform(-0.1, 0.15)],
            p=[0.78, 0.22],
        )
        fields[:, TROUSERS] = np.minimum(waist - y, y - end)
        if rng.random() < 0.35:  # shirt tucked in
            fields[:, SHIRT] = np.minimum(fields[:, SHIRT], y - waist + 0.01)

    def _skirt(self, rng: Random, fields: Array, loose: list[LoosePart], one_piece: bool) -> None:
        y = self.rest[:, 1]
        fields[:, TROUSERS] = np.minimum(fields[:, TROUSERS], y - self.hip[1] + 0.12)
        end = rng.uniform(self.knee[1] - 0.3, self.hip[1] - 0.3)
        slot = 1 + (SHIRT if one_piece else TROUSERS)
        loose.append(parts.skirt(rng, self, slot, end))

    def _feet(self, rng: Random, fields: Array) -> None:
        y = self.rest[:, 1]
        if rng.random() < 0.06:
            return
        top = self.ankle[1] + rng.choice(
            [rng.uniform(-0.03, 0.02), rng.uniform(0.05, 0.3)], p=[0.8, 0.2]
        )
        fields[:, SHOES] = top - y
        if rng.random() < 0.5:
            fields[:, SOCKS] = self.ankle[1] + rng.uniform(0.02, 0.2) - y

    def _jacket(self, rng: Random, fields: Array) -> None:
        x, y, z = np.abs(self.rest[:, 0]), self.rest[:, 1], self.rest[:, 2]
        hem = self.hip[1] + rng.uniform(-0.35, 0.05)
        opening = np.where(z > 0, x - rng.uniform(0.0, 0.1) * rng.integers(0, 2), 1.0)
        collar = self.neck[1] + rng.uniform(-0.02, 0.04) + 1.2 * np.maximum(x - 0.06, 0) - y
        body = np.minimum(np.minimum(y - hem, self.wrist_x * rng.uniform(0.9, 1.0) - x), collar)
        fields[:, JACKET] = np.minimum(body, opening)

    def _lift(self, rng: Random, fields: Array) -> Array:
        """Thickness of all garments with folds (V,) [m]."""
        thickness = np.zeros(LAYERS - 1)
        thickness[HAIR] = rng.choice([rng.uniform(0.004, 0.015), rng.uniform(0.015, 0.04)])
        thickness[[SOCKS, SHOES, GLOVES]] = 0.002, rng.uniform(0.006, 0.014), 0.003
        thickness[TROUSERS] = rng.uniform(0.003, 0.02)
        thickness[SHIRT] = rng.uniform(0.003, 0.022)
        thickness[JACKET] = rng.uniform(0.006, 0.025)
        rise = np.clip(fields / 0.03, 0, 1)
        folds = self._folds(rng)
        lift = rise @ thickness
        cloth = rise[:, [TROUSERS, SHIRT, JACKET]].max(1)
        roomy = thickness[[TROUSERS, SHIRT]].mean() / 0.012
        lift += cloth * folds * rng.uniform(0.001, 0.004) * roomy
        flare = rng.uniform(0, 0.05) * (rng.random() < 0.4)
        low = np.clip((self.knee[1] + 0.1 - self.rest[:, 1]) / 0.45, 0, 1)
        return (lift + rise[:, TROUSERS] * (fields[:, SHOES] < 0.05) * low * flare).astype(
            np.float32
        )

    def _folds(self, rng: Random) -> Array:
        """Smooth noise over the surface (V,), deviation about 1: sums of waves."""
        waves = rng.standard_normal((10, 3))
        waves *= (rng.uniform(30, 110, 10) / np.linalg.norm(waves, axis=1))[:, None]
        total = np.sin(self.phases @ waves.T + rng.uniform(0, 2 * np.pi, 10)).sum(1)
        return (total / np.sqrt(5)).astype(np.float32)

    def clothed(self, outfit: Outfit, shaped: Array) -> Array:
        """Rest vertices (V, 3) of a shaped body (V, 3) with the clothes' thickness."""
        normals = vertex_normals(shaped, self.body.faces)
        height = outfit.lift + outfit.covered * outfit.smooth * self.hollow
        return shaped + normals * height[:, None]


def _laplacian(faces: Array, count: int) -> sparse.csr_matrix:
    """Averaging over the neighbours of each vertex, itself included."""
    rows = np.concatenate([faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()])
    columns = np.concatenate([faces[:, [1, 2, 0]].ravel(), faces[:, [0, 1, 2]].ravel()])
    links = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), (count, count)).tocsr()
    links.data[:] = 1
    links = links + sparse.identity(count)
    return sparse.diags(1 / np.asarray(links.sum(1)).ravel()) @ links
