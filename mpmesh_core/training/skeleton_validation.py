"""skeleton_validation: how good the skeleton network is on people kept out of training.

In   a network, stores of labelled people
Out  numbers by name: 3D errors [mm] where bodies are known, of points and, given a body model, of
     what the line makes of them (`posed_...`); PCK (in torso lengths) where LSP's human labels
     are, for each convention that speaks of those joints
"""

from __future__ import annotations

import numpy as np
import torch

from mpmesh_core.body import BodyModel
from mpmesh_core.evaluation.metrics import mpjpe, pa_mpjpe, pck
from mpmesh_core.networks.skeleton import JOINTS, SkeletonNetwork
from mpmesh_core.training.augment import NO_AUGMENT
from mpmesh_core.training.posed import pose_body
from mpmesh_core.training.skeleton_data import PeopleStore

Array = np.ndarray
LIMBS = {
    "lsp": tuple(range(12)),
    "points": (8, 5, 2, 1, 4, 7, 21, 19, 17, 16, 18, 20),
    "coco": (16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9),
}
"""LSP's first twelve joints (ankles to wrists) in each convention."""
_SHOULDERS, _HIPS = [8, 9], [2, 3]  # in LSP
_CHUNK = 25


@torch.inference_mode()
def validate_skeleton(
    network: SkeletonNetwork,
    store: PeopleStore,
    size: int,
    most: int = 200,
    body: BodyModel | None = None,
) -> dict[str, float]:
    """Measure on up to `most` people of a store, evenly spread over it, without augmentation.

    Args:
        network: in eval mode.
        store: people kept out of training.
        size: side of the crops [px].
        most: people, at most.
        body: for the errors of posed bodies.
    """
    rows = np.unique(np.linspace(0, len(store) - 1, min(most, len(store))).astype(int))
    rng = np.random.default_rng(0)
    samples = [store.crop(int(row), rng, NO_AUGMENT, size) for row in rows]
    labels = {name: np.stack([s[name] for s in samples]) for name in samples[0]}
    device = next(network.parameters()).device
    points3d, points2d, posed = [], [], []
    cameras = torch.from_numpy(labels["K"]).split(_CHUNK)
    for image, K in zip(torch.from_numpy(labels["image"]).split(_CHUNK), cameras):
        found, maps, decoded = network.outputs(image.float().to(device))
        if body is not None:
            posed.append(pose_body(found, K.to(device), body, size).points.cpu().numpy())
        conventions = {"points": maps, **network.extra_points(decoded)}
        points3d.append(found["points3d"].cpu().numpy())
        points2d.append({name: m.points2d.cpu().numpy() for name, m in conventions.items()})
    pixels = {name: np.concatenate([p[name] for p in points2d]) for name in LIMBS}
    scores = _spatial(np.concatenate(points3d), labels)
    if posed:
        errors = _spatial(np.concatenate(posed), labels)
        scores |= {f"posed_{name}": value for name, value in errors.items()}
    return scores | _planar(pixels, labels)


def _spatial(points3d: Array, labels: dict[str, Array]) -> dict[str, float]:
    truth = labels["points3d"][:, :JOINTS]
    known = truth[..., 3].min(1) > 0.5
    if not known.any():
        return {}
    found, truth = points3d[known, :JOINTS].astype(float), truth[known, :, :3].astype(float)
    errors = {"mpjpe_mm": mpjpe(found, truth), "pa_mpjpe_mm": pa_mpjpe(found, truth)}
    return {name: round(1000 * float(error.mean()), 1) for name, error in errors.items()}


def _planar(pixels: dict[str, Array], labels: dict[str, Array]) -> dict[str, float]:
    truth = labels["lsp2d"].astype(float)
    whole = (truth[:, _SHOULDERS + _HIPS, 2] > 0).all(1)
    if not whole.any():
        return {}
    truth = truth[whole]
    middle = truth[:, _SHOULDERS, :2].mean(1) - truth[:, _HIPS, :2].mean(1)
    torso = np.linalg.norm(middle, axis=-1)
    limbs = truth[:, list(LIMBS["lsp"])]
    scores = {}
    for name, joints in LIMBS.items():
        found = pixels[name][whole][:, list(joints)].astype(float)
        for at in (0.2, 0.5):
            share = pck(found, limbs[..., :2], limbs[..., 2], torso, at)
            scores[f"{name}_pck{at}"] = round(float(np.nanmean(share)), 3)
    return scores
