"""depth: bodies go to where a depth image shows them."""

import numpy as np
import pytest
import roma
import torch
from people_samples import standing_person

from mpmesh_core.body import load_body
from mpmesh_core.camera import Camera
from mpmesh_core.depth import RANGE_SIGMA, anchor_people, anchor_to_depth, depth_shift
from mpmesh_core.errors import InputError
from mpmesh_core.rasterizer import Meshes, rasterize_meshes
from mpmesh_core.types import Bodies

CAMERA = Camera.from_fov(640, 480)


@pytest.fixture(scope="module")
def body():
    return load_body("open")


def bodies_of(people):
    pose = np.stack([np.concatenate([p.global_orient, p.body_pose]) for p in people])
    return Bodies(
        roma.rotvec_to_rotmat(torch.as_tensor(pose.reshape(-1, 24, 3), dtype=torch.float32)),
        torch.zeros(len(people), 10),
        torch.as_tensor(np.stack([p.transl for p in people]), dtype=torch.float32),
        torch.diag(torch.tensor([0.02, 0.02, 0.3]) ** 2).expand(len(people), 3, 3),
        torch.zeros(len(people)),
    )


def seen(body, people, wall=6.0):
    """The depth image of a room with these people."""
    vertices = [
        body(*(getattr(bodies_of([p]), n)[0] for n in ("rotations", "betas", "transl"))).vertices
        for p in people
    ]
    meshes = Meshes.join([v.numpy() for v in vertices], [body.faces.numpy()] * len(people))
    depth = rasterize_meshes(meshes, CAMERA.K, (640, 480)).depth
    return np.where(np.isfinite(depth), depth, np.float32(wall))


def pelvises(body, bodies):
    return body(bodies.rotations, bodies.betas, bodies.transl, vertices=False).joints[:, 0].numpy()


def along_ray(bodies, body, factor):
    pelvis = torch.as_tensor(pelvises(body, bodies))
    moved = bodies.transl + pelvis * (torch.as_tensor(factor)[:, None] - 1)
    return Bodies(bodies.rotations, bodies.betas, moved, bodies.covariance, bodies.fit_residual)


class TestAnchorToDepth:
    @pytest.mark.parametrize("factor", [0.8, 0.95, 1.0, 1.1, 1.25])
    def test_wrong_distance_is_corrected(self, body, factor):
        people = [standing_person(body, CAMERA, x, z) for x, z in ((-0.8, 3.0), (0.7, 4.0))]
        truth = bodies_of(people)
        guess = along_ray(truth, body, torch.tensor([factor, factor]))
        anchored = anchor_to_depth(body, guess, seen(body, people), CAMERA)
        np.testing.assert_allclose(pelvises(body, anchored), pelvises(body, truth), atol=0.04)

    def test_covariance_shrinks_along_the_ray_only(self, body):
        people = [standing_person(body, CAMERA, 0.0, 3.0)]
        anchored = anchor_to_depth(body, bodies_of(people), seen(body, people), CAMERA)
        sigmas = np.sqrt(np.diagonal(anchored.covariance[0].numpy()))
        np.testing.assert_allclose(sigmas, [0.02, 0.02, RANGE_SIGMA], atol=1e-3)

    def test_somebody_half_hidden(self, body):
        person = standing_person(body, CAMERA, 0.0, 4.0)
        depth = seen(body, [person])
        depth[:, 320:] = 1.5  # a door
        guess = along_ray(bodies_of([person]), body, torch.tensor([1.1]))
        anchored = anchor_to_depth(body, guess, depth, CAMERA)
        assert abs(pelvises(body, anchored)[0, 2] - 4.0) < 0.05

    def test_nothing_measured_changes_nothing(self, body):
        bodies = bodies_of([standing_person(body, CAMERA, 0.0, 3.0)])
        for empty in (0.0, np.nan, np.inf):
            depth = np.full((480, 640), empty, np.float32)
            anchored = anchor_to_depth(body, bodies, depth, CAMERA)
            assert torch.equal(anchored.transl, bodies.transl)
            assert torch.equal(anchored.covariance, bodies.covariance)

    def test_one_person_does_not_depend_on_others(self, body):
        people = [standing_person(body, CAMERA, x, 3.5) for x in (-0.9, 0.9)]
        depth = seen(body, people)
        both = anchor_to_depth(body, bodies_of(people), depth, CAMERA)
        alone = anchor_to_depth(body, bodies_of(people[1:]), depth, CAMERA)
        torch.testing.assert_close(both.transl[1:], alone.transl)

    def test_nobody(self):
        shift, agreed = depth_shift(np.zeros((0, 5, 3)), np.ones((480, 640)), CAMERA)
        assert shift.shape == agreed.shape == (0,)

        assert anchor_people(load_body("open"), [], np.ones((480, 640)), CAMERA) == []

    def test_millimetres_are_refused(self, body):
        bodies = bodies_of([standing_person(body, CAMERA, 0.0, 3.0)])
        with pytest.raises(InputError, match="uint16: divide millimetres by 1000"):
            anchor_to_depth(body, bodies, np.full((480, 640), 3000, np.uint16), CAMERA)

    def test_another_size_is_refused(self, body):
        bodies = bodies_of([standing_person(body, CAMERA, 0.0, 3.0)])
        with pytest.raises(InputError, match="320x240"):
            anchor_to_depth(body, bodies, np.ones((240, 320), np.float32), CAMERA)
