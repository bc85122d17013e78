"""The joint head: shapes, what it does untrained, and that people do not mix."""

from __future__ import annotations

import torch
from torch import Tensor

from mpmesh_core.networks.joint_head import POINTS, TWISTS, JointHead, JointTokens
from mpmesh_core.networks.transformer import Layer


def _inputs(people: int, fine: Tensor | None = None) -> JointTokens:
    return JointTokens(
        under=torch.randn(people, POINTS, 24),
        whole=torch.randn(people, 16),
        points3d=torch.randn(people, POINTS, 3),
        points2d=torch.rand(people, POINTS, 2) * 256,
        log_scale=torch.randn(people, POINTS),
        under_fine=fine,
    )


def _trained(seed: int = 0) -> JointHead:
    torch.manual_seed(seed)
    head = JointHead(8, 16, width=48, layers=2)
    torch.nn.init.normal_(head.shift.weight)
    torch.nn.init.normal_(head.betas.weight)
    return head.eval()


class TestJointHead:
    def test_shapes_also_of_nobody(self) -> None:
        for people in (0, 3):
            reading = _trained()(_inputs(people))
            assert reading.shift3d.shape == (people, POINTS, 3)
            assert reading.shift2d.shape == (people, POINTS, 2)
            assert reading.log_scale.shape == (people, POINTS)
            assert reading.twist.shape == (people, TWISTS, 2)
            assert reading.betas.shape == (people, 10)

    def test_untrained_it_moves_nothing(self) -> None:
        reading = JointHead(8, 16)(_inputs(2))
        for value in (reading.shift3d, reading.shift2d, reading.log_scale, reading.betas):
            assert not value.any()

    def test_twists_have_length_one(self) -> None:
        reading = _trained()(_inputs(4))
        torch.testing.assert_close(reading.twist.norm(dim=-1), torch.ones(4, TWISTS))

    def test_one_person_does_not_depend_on_the_others(self) -> None:
        head, inputs = _trained(), _inputs(5)
        alone = head(JointTokens(*(None if x is None else x[2:3] for x in inputs)))  # type: ignore[arg-type]
        for together, single in zip(head(inputs), alone):
            torch.testing.assert_close(together[2:3], single, rtol=1e-4, atol=1e-5)

    def test_reads_the_fine_map_where_there_is_one(self) -> None:
        head = JointHead(8, 16, fine=4, width=48, layers=1)
        torch.nn.init.normal_(head.shift.weight)
        fine, other = torch.randn(2, 1, POINTS, 4)
        inputs = _inputs(1, fine)
        beside = inputs._replace(under_fine=other)
        assert (head(inputs).shift2d - head(beside).shift2d).abs().max() > 1e-3

    def test_every_point_may_look_at_every_other(self) -> None:
        head = _trained()
        inputs = _inputs(1)
        inputs.under.requires_grad_()
        head(inputs).shift3d[0, 3].sum().backward()
        assert inputs.under.grad is not None
        assert (inputs.under.grad.abs().sum(-1) > 0).all()


class TestLayer:
    def test_a_mask_that_shows_all_changes_nothing(self) -> None:
        torch.manual_seed(0)
        layer, tokens = Layer(32, 4, 8, 64), torch.randn(2, 7, 32)
        seen = torch.ones(2, 1, 1, 7, dtype=torch.bool)
        torch.testing.assert_close(layer(tokens, seen), layer(tokens))

    def test_tokens_that_are_only_read_are_left_out(self) -> None:
        torch.manual_seed(0)
        layer, tokens = Layer(32, 4, 8, 64), torch.randn(2, 7, 32)
        seen = torch.rand(2, 1, 1, 7) < 0.7
        wanted = layer(tokens, seen, 3)
        assert wanted.shape == (2, 3, 32)
        torch.testing.assert_close(wanted, layer(tokens, seen)[:, :3])
