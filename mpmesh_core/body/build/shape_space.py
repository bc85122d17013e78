"""shape_space: ten components in which betas drawn from N(0, 1) look like people.

In   T-posed adults and children (S, W, 3) [m]
Out  ShapeSpace: mean adult (W, 3) and components (W, 3, 10) [m per unit of beta]
The basis comes from adults with some children mixed in, since adults alone cannot represent
children; mean and scale come from the adults alone, since the mixture makes a unit Gaussian absurd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpmesh_core.types import Array

COMPONENTS = 10
_MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ShapeSpace:
    """vertices = mean + components @ betas."""

    mean: Array  # (W, 3) [m]
    components: Array  # (W, 3, 10) [m]

    def fit(self, vertices: Array) -> Array:
        """Least-squares betas (S, 10) of T-posed vertices (S, W, 3)."""
        basis = self.components.reshape(-1, COMPONENTS)
        offsets = (vertices - self.mean).reshape(len(vertices), -1)
        return np.linalg.solve(basis.T @ basis, basis.T @ offsets.T).T

    def shape(self, betas: Array) -> Array:
        """T-posed vertices (S, W, 3) of betas (S, 10)."""
        return self.mean + np.einsum("wck,sk->swc", self.components, betas)


def learn_shape_space(adults: Array, children: Array, mirror: Array) -> ShapeSpace:
    """Principal components, rotated and scaled so that adults have mean 0 and unit covariance.

    Args:
        adults: (S, W, 3) T-posed adults [m].
        children: (T, W, 3) T-posed children [m], about a fifth of the adults' number.
        mirror: (W,) twins; the space is made exactly symmetric.
    """
    adults, children = _symmetric(adults, mirror), _symmetric(children, mirror)
    mean = adults.mean(0)
    offsets = np.concatenate([adults, children]) - mean
    _, _, basis = np.linalg.svd(offsets.reshape(len(offsets), -1), full_matrices=False)
    basis = basis[:COMPONENTS]
    scores = (adults - mean).reshape(len(adults), -1) @ basis.T
    variances, rotation = np.linalg.eigh(scores.T @ scores / len(scores))
    order = np.argsort(variances)[::-1]
    whitened = (rotation[:, order] * np.sqrt(variances[order])).T @ basis  # (10, W * 3)
    components = whitened.reshape(COMPONENTS, -1, 3).transpose(1, 2, 0)
    return ShapeSpace(mean, components * _signs(mean, components))


def _symmetric(vertices: Array, mirror: Array) -> Array:
    vertices = vertices.astype(np.float64)
    return (vertices + vertices[:, mirror] * _MIRROR) / 2


def _signs(mean: Array, components: Array) -> Array:
    """The first component grows taller; the others reach further outwards (longer arms)."""
    outwards = mean * [1, 0, 1]
    outer = np.einsum("wck,wc->k", components, outwards)
    taller = components[mean[:, 1].argmax(), 1] - components[mean[:, 1].argmin(), 1]
    return np.where(np.r_[taller[:1], outer[1:]] < 0, -1.0, 1.0)
