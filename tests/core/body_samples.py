"""Small made-up bodies in the SMPL format, for tests that need no real one."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csc_matrix

from mpmesh_core.joints import SMPL_PARENTS


def smpl_content(count: int = 97, tips: bool = True) -> dict:
    """What an SMPL file holds, with `count` random vertices and pose correctives."""
    rng = np.random.default_rng(count)
    weights = np.zeros((count, 24))
    for row in weights:
        row[rng.choice(24, 4, replace=False)] = rng.dirichlet(np.ones(4))
    regressor = np.zeros((24, count))
    for row in regressor:
        row[rng.choice(count, 6, replace=False)] = rng.dirichlet(np.ones(6))
    content = {
        "v_template": rng.normal(0, 0.4, (count, 3)),
        "shapedirs": rng.normal(0, 0.02, (count, 3, 10)),
        "posedirs": rng.normal(0, 0.005, (count, 3, 207)).astype(np.float32),
        "weights": weights,
        "J_regressor": csc_matrix(regressor),
        "kintree_table": np.array([(2**32 - 1, *SMPL_PARENTS[1:]), range(24)], np.uint32),
        "f": rng.integers(0, count, (40, 3)).astype(np.uint32),
    }
    if tips:
        content["tip_regressor"] = np.eye(count)[:5]
        content["coco17_regressor"] = rng.dirichlet(np.ones(count), 17)
    return content


def dense(content: dict) -> dict:
    """The same without SciPy matrices, as an .npz holds it."""
    return {**content, "J_regressor": content["J_regressor"].toarray()}


def random_people(count: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple:
    """Rotations (N, 24, 3, 3), betas (N, 10), transl (N, 3)."""
    import roma

    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 24, 3, generator=generator, dtype=torch.float64)
    betas = torch.randn(count, 10, generator=generator, dtype=torch.float64)
    transl = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return roma.rotvec_to_rotmat(vectors).to(dtype), betas.to(dtype), transl.to(dtype)
