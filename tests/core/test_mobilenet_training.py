"""The detours that make MobileNets train faster on a CPU: they change no value and no gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mpmesh_core.networks.depthwise import DepthwiseConv2d
from mpmesh_core.networks.mobilenet import ConvNorm, MobileNet


def _gradients(run: Callable[[], Tensor], *inputs: Tensor) -> list[Tensor]:
    output = run()
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), inputs)]


class TestDepthwise:
    @settings(max_examples=20, deadline=None)
    @given(
        st.integers(1, 9),
        st.integers(1, 19),
        st.integers(1, 9),
        st.integers(1, 9),
        st.sampled_from((3, 5, 7)),
        st.sampled_from((1, 2)),
        st.booleans(),
    )
    def test_value_and_gradients_are_those_of_a_plain_convolution(
        self,
        batch: int,
        channels: int,
        rows: int,
        columns: int,
        kernel: int,
        stride: int,
        bias: bool,
    ) -> None:
        torch.manual_seed(0)
        rows, columns = rows * stride, columns * stride
        conv = DepthwiseConv2d(
            channels, channels, kernel, stride, kernel // 2, groups=channels, bias=bias
        ).double()
        x = torch.randn(batch, channels, rows, columns, dtype=torch.double, requires_grad=True)
        inputs = (x, *conv.parameters())
        fast = _gradients(lambda: conv.train()(x), *inputs)
        plain = _gradients(lambda: conv.eval()(x), *inputs)
        for found, wanted in zip(fast, plain):
            torch.testing.assert_close(found, wanted)

    def test_autocast_rounds_but_sums_in_float32(self) -> None:
        torch.manual_seed(0)
        conv = DepthwiseConv2d(16, 16, 5, 1, 2, groups=16, bias=False).train()
        x = torch.randn(32, 16, 24, 24, requires_grad=True)
        wanted = _gradients(lambda: conv.eval()(x), x, conv.weight)
        with torch.autocast("cpu", torch.bfloat16):
            output = conv.train()(x)
        assert output.dtype == torch.bfloat16
        found = _gradients(lambda: output.float(), x, conv.weight)
        for ours, exact in zip(found, wanted):
            assert ours.dtype == torch.float32
            assert (ours - exact).norm() < 0.01 * exact.norm()

    def test_what_does_not_learn_gets_no_gradient(self) -> None:
        conv = DepthwiseConv2d(3, 3, 5, 1, 2, groups=3).train().requires_grad_(False)
        x = torch.randn(1, 3, 8, 8, requires_grad=True)
        conv(x).sum().backward()
        assert x.grad is not None
        assert conv.weight.grad is None


class TestFrozenNorms:
    @pytest.mark.parametrize("layout", ["mobilenetv2", "blazepose"])
    def test_folded_norms_change_neither_outputs_nor_gradients(self, layout: str) -> None:
        torch.manual_seed(0)
        network = MobileNet(layout).double().train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                module.eval()
        image = torch.randn(2, 3, 64, 64, dtype=torch.double)
        weights = tuple(network.parameters())

        def run() -> Tensor:
            return torch.cat([maps.flatten() for maps in network(image)])

        folded = _gradients(run, *weights)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ConvNorm, "forward", nn.Sequential.forward)
            plain = _gradients(run, *weights)
        for found, wanted in zip(folded, plain):
            torch.testing.assert_close(found, wanted)

    def test_norms_that_learn_count_their_batches(self) -> None:
        layer = ConvNorm(3, 4).train()
        layer(torch.randn(8, 3, 4, 4))
        assert layer.norm.num_batches_tracked == 1
        layer.norm.eval()
        layer(torch.randn(8, 3, 4, 4))
        assert layer.norm.num_batches_tracked == 1
