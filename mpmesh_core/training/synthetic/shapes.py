"""shapes: how tall and broad a synthetic person is.

Betas are N(0, 1) for adults. Children lie far out in the same space; their betas come from
shrinking the adult mean, by least squares on the body's own shape directions.
"""

from __future__ import annotations

import numpy as np

from mpmesh_core.training.synthetic.skinning import FastBody

Array = np.ndarray
Random = np.random.Generator

CHILDREN = 0.12  # share of people
SPREAD = 1.1  # a little wider than the population


class ShapeBank:
    """Draws shape components."""

    def __init__(self, body: FastBody) -> None:
        self.directions = body.shapedirs.reshape(-1, body.shapedirs.shape[-1])
        self.template = body.template
        self.head = (body.weights * np.isin(body.bones, (12, 15))).sum(1)

    def draw(self, rng: Random) -> Array:
        """Betas (10,) float32."""
        if rng.random() > CHILDREN:
            betas = np.clip(rng.standard_normal(self.directions.shape[1]) * SPREAD, -2.6, 2.6)
            return betas.astype(np.float32)
        return self.child(rng, rng.uniform(0.62, 0.92))

    def child(self, rng: Random, scale: float) -> Array:
        """Betas (10,) of a person `scale` times as tall as the mean adult, with a larger head."""
        head_scale = 1 - 0.45 * (1 - scale)
        per_vertex = scale + (head_scale - scale) * self.head
        top_of_neck = self.template[self.head > 0.5].min(0)[1]
        target = self.template * per_vertex[:, None]
        target[:, 1] += (scale - per_vertex) * top_of_neck
        wanted = (target - self.template).ravel()
        # A weak pull to zero keeps the small components from running away.
        normal = self.directions.T @ self.directions
        pull = 1e-3 * np.trace(normal) / len(normal) * np.eye(len(normal))
        betas = np.linalg.solve(normal + pull, self.directions.T @ wanted)
        return (betas + 0.4 * rng.standard_normal(len(betas))).astype(np.float32)
