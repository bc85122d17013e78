"""Skeleton networks: shapes, coordinates, batch independence, gradients, export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mpmesh_core.engines.export import check_parity, export_onnx
from mpmesh_core.errors import NumericalError, WeightsError
from mpmesh_core.networks import KINDS, Network, network_class
from mpmesh_core.networks.decoder import finer
from mpmesh_core.networks.heatmaps import (
    Grid,
    box_centres,
    expected,
    marginals_2d,
    marginals_3d,
    spatial_softmax,
)
from mpmesh_core.networks.mobilenet import MobileNet
from mpmesh_core.networks.resnet import ResNet
from mpmesh_core.networks.skeleton import EXTRA_POINTS, SkeletonConfig, SkeletonNetwork

CPU = torch.device("cpu")
SHAPES = {
    "points3d": (29, 3),
    "points2d": (29, 2),
    "confidence": (29,),
    "twist": (23, 2),
    "betas": (10,),
    "heatmaps": (24, 8, 8),
}


def _network(variant: str = "light", seed: int = 0) -> SkeletonNetwork:
    """`fine` is the light variant with its fine map, untrained as it is."""
    torch.manual_seed(seed)
    fine = 16 if variant == "fine" else 0
    variant = "light" if fine else variant
    network = SkeletonNetwork(SkeletonConfig(variant=variant, fine=fine))
    for module in network.modules():  # torch's own start loses the input on its way
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.nn.init.normal_(network.head.conv.weight, std=0.05)
    return network.eval()


@pytest.fixture(scope="module")
def light() -> SkeletonNetwork:
    return _network("light")


class TestRegistry:
    def test_every_kind_is_known_and_others_are_refused(self) -> None:
        assert KINDS == ("detector", "skeleton", "refiner")
        assert network_class("skeleton") is SkeletonNetwork
        with pytest.raises(WeightsError, match="expected one of"):
            network_class("face")

    def test_skeleton_network_follows_the_protocol(self, light: SkeletonNetwork) -> None:
        assert isinstance(light, Network)
        assert list(light.example_inputs(1)) == list(light.INPUT_NAMES)


class TestSpatialSoftmax:
    def test_sums_to_one_and_is_float32(self) -> None:
        p = spatial_softmax(torch.randn(2, 3, 4, 5, 6).bfloat16(), 3)
        assert p.dtype == torch.float32
        torch.testing.assert_close(p.sum((-3, -2, -1)), torch.ones(2, 3))


class TestExpected:
    def test_peak_is_found_in_two_dimensions(self) -> None:
        logits = torch.full((1, 18, 18), -50.0)
        logits[0, 4, 11] = 50.0  # row (y) 4, column (x) 11
        centres = Grid(18, 16, 0.0).centres(CPU)
        found = expected(marginals_2d(spatial_softmax(logits, 2)), (centres, centres))
        torch.testing.assert_close(found, torch.tensor([[160.0, 48.0]]))

    def test_between_two_cells_lies_the_middle(self) -> None:
        probability = torch.zeros(18, 18)
        probability[3, 7] = probability[3, 8] = 0.5
        centres = Grid(18, 16, 0.0).centres(CPU)
        found = expected(marginals_2d(probability), (centres, centres))
        torch.testing.assert_close(found, torch.tensor([104.0, 32.0]))

    def test_corners_of_a_volume_are_the_corners_of_the_cube(self) -> None:
        probability = torch.zeros(2, 8, 18, 18)
        probability[0, 0, 0, 0] = probability[1, 7, 17, 0] = 1.0  # z, y, x
        marginals = marginals_3d(probability)
        found = expected(marginals, box_centres(marginals, 2.2))
        truth = torch.tensor([[-1.1, -1.1, -1.1], [-1.1, 1.1, 1.1]])
        torch.testing.assert_close(found, truth)

    def test_gradient_of_a_coordinate_points_towards_it(self) -> None:
        logits = torch.zeros(1, 6, 6, requires_grad=True)
        marginals, cells = marginals_2d(spatial_softmax(logits, 2)), torch.arange(6.0)
        expected(marginals, (cells, cells))[0, 0].backward()
        assert logits.grad is not None
        assert (logits.grad[0, :, 5] > 0).all()
        assert (logits.grad[0, :, 0] < 0).all()


class TestGrid:
    @pytest.mark.parametrize(
        "grid", [Grid(18, 16, 0.0), Grid(10, 32, 16.0)], ids=["light", "paper"]
    )
    def test_convention_coordinates_reach_both_borders_of_the_crop(self, grid: Grid) -> None:
        centres = grid.centres(CPU)
        assert centres[0] <= -0.5
        assert centres[-1] >= 255.5

    def test_fold_keeps_mass_and_place(self) -> None:
        fine, coarse = Grid(18, 16, 0.0), Grid(8, 32, 0.0, ring=0)
        fold = fine.fold(coarse, CPU)
        torch.testing.assert_close(fold.sum(0), torch.ones(18))
        heatmap = spatial_softmax(torch.randn(18, 18) * 3, 2)
        folded = fold @ heatmap @ fold.T
        torch.testing.assert_close(folded.sum(), torch.tensor(1.0))
        inner = torch.zeros(18, 18)
        inner[5, 9] = 1.0  # on pixels (128, 64), so on coarse cell (4, 2)
        assert (fold @ inner @ fold.T)[2, 4] == 1.0


class TestBackbones:
    @pytest.mark.parametrize(
        ("backbone", "lateral", "top"),
        [
            (MobileNet(), 96, 1280),
            (MobileNet("blazepose"), 56, 576),
            (ResNet(), 1024, 2048),
            (ResNet("resnet34"), 256, 512),
        ],
        ids=["mobilenetv2", "blazepose", "resnet50", "resnet34"],
    )
    def test_shapes(self, backbone: torch.nn.Module, lateral: int, top: int) -> None:
        low, high = backbone.eval()(torch.zeros(1, 3, 64, 96))
        assert low.shape == (1, lateral, 4, 6)
        assert high.shape == (1, top, 2, 3)

    @pytest.mark.parametrize(
        ("network", "offset"),
        [
            (MobileNet(), 0.0),
            (MobileNet("blazepose"), 0.0),
            (ResNet(), 16.0),
            (ResNet("resnet34"), 16.0),
        ],
        ids=["mobilenetv2", "blazepose", "resnet50", "resnet34"],
    )
    def test_convention_cells_lie_where_the_grid_says(
        self, network: torch.nn.Module, offset: float
    ) -> None:
        """With averaging kernels, what a cell sees is centred on `offset + 32 cell`."""
        cell = 19
        network.eval()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(network, ResNet):  # a maximum of equals has a one-sided gradient
            network.stem[-1] = torch.nn.AvgPool2d(3, 2, padding=1)
        network.double()
        image = torch.full((1, 3, 32, 1216), 1e-4, dtype=torch.double, requires_grad=True)
        network(image)[1][0, 0, 0, cell].backward()
        assert image.grad is not None
        seen = image.grad.abs().sum((0, 1, 2)).nonzero().flatten()
        assert (seen[0] + seen[-1]).item() / 2 == offset + 32 * cell


class TestSkeletonNetwork:
    @pytest.mark.parametrize(
        ("variant", "channels"), [("light", 256), ("fine", 256), ("paper", 2048)]
    )
    def test_names_and_shapes(self, variant: str, channels: int) -> None:
        network = _network(variant)
        with torch.inference_mode():
            found = network(*network.example_inputs(2).values())
        assert tuple(found) == network.OUTPUT_NAMES
        assert found["features"].shape == (2, channels, 8, 8)
        for name, shape in SHAPES.items():
            assert found[name].shape == (2, *shape), name

    def test_outputs_keep_their_promises(self, light: SkeletonNetwork) -> None:
        with torch.inference_mode():
            found = light(*light.example_inputs(3).values())
        assert (found["points3d"][:, 0] == 0).all()
        assert ((found["confidence"] > 0) & (found["confidence"] < 1)).all()
        torch.testing.assert_close(found["twist"].norm(dim=-1), torch.ones(3, 23))
        torch.testing.assert_close(found["heatmaps"].sum((-2, -1)), torch.ones(3, 24))

    def test_the_fine_map_may_move_a_point_anywhere(self) -> None:
        """One bright cell at a time: the point goes to the pixel on which that cell is centred."""
        network = _network("fine")
        assert network.head.sharpen is not None
        decoded = torch.zeros(1, 192, 18, 18)
        for row, column in ((0, 0), (2, 2), (9, 30), (34, 34)):
            fine = torch.zeros(1, 16, 35, 35)
            fine[0, :, row, column] = 1.0
            torch.nn.init.constant_(network.head.sharpen.weight, 10.0)
            grid = Grid(35, 8, 0.0, ring=2)
            found = network.head(decoded, fine, grid.centres(CPU)).points2d[0]
            expected_at = torch.tensor([8.0 * (column - 2), 8.0 * (row - 2)]).expand(29, 2)
            torch.testing.assert_close(found, expected_at, rtol=0, atol=1e-2)

    def test_fine_cells_lie_on_and_between_the_coarse_ones(self) -> None:
        """Untrained, the fine map leaves a sharp coarse heatmap's point where it was."""
        ramp = Grid(18, 16, 0.0).centres(CPU).expand(1, 1, 18, 18)
        torch.testing.assert_close(finer(ramp)[0, 0, 0], Grid(35, 8, 0.0, ring=2).centres(CPU))

    def test_only_the_light_variant_has_a_fine_map(self) -> None:
        with pytest.raises(WeightsError, match="only the light variant has a fine map"):
            SkeletonNetwork(SkeletonConfig(variant="paper", fine=16))

    def test_no_people_is_no_error(self, light: SkeletonNetwork) -> None:
        with torch.inference_mode():
            found = light(torch.zeros(0, 3, 256, 256))
        assert found["points3d"].shape == (0, 29, 3)
        assert found["heatmaps"].shape == (0, 24, 8, 8)

    def test_one_crop_does_not_depend_on_the_others(self, light: SkeletonNetwork) -> None:
        image = light.example_inputs(3)["image"]
        with torch.inference_mode():
            together, alone = light(image), light(image[1:2])
        for name in light.OUTPUT_NAMES:
            torch.testing.assert_close(together[name][1:2], alone[name], rtol=1e-4, atol=1e-4)

    def test_other_conventions_have_their_points(self, light: SkeletonNetwork) -> None:
        with torch.inference_mode():
            found = light.extra_points(light.outputs(light.example_inputs(1)["image"])[2])
        assert {name: maps.points2d.shape[1] for name, maps in found.items()} == EXTRA_POINTS

    @pytest.mark.parametrize("fine", [0, 16])
    def test_gradients_reach_all_parameters(self, fine: int) -> None:
        torch.manual_seed(0)
        network = SkeletonNetwork(SkeletonConfig(fine=fine)).train()
        for head in (network.head, *network.extra.values()):
            if head.sharpen is not None:
                torch.nn.init.normal_(head.sharpen.weight)
        found, maps, decoded = network.outputs(torch.rand(2, 3, 128, 128) * 255)
        terms = [found["twist"].sum(-1), found["betas"]]
        terms += [found["points3d"], found["points2d"], found["confidence"]]
        for points in (maps, *network.extra_points(decoded).values()):
            terms += [points.points3d, points.points2d, points.log_scale]
        torch.cat([(term * torch.randn_like(term)).flatten() for term in terms]).sum().backward()
        without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == []

    def test_unknown_configuration_is_refused(self) -> None:
        with pytest.raises(WeightsError, match="unknown variant 'huge'"):
            SkeletonNetwork(SkeletonConfig(variant="huge"))
        with pytest.raises(WeightsError, match="unknown backbone 'spine'"):
            SkeletonNetwork(SkeletonConfig(backbone="spine"))
        with pytest.raises(WeightsError, match="unknown skeleton configuration: depth"):
            SkeletonNetwork.from_config({"depth": 3})


class TestExport:
    @pytest.mark.parametrize("variant", ["light", "fine", "paper"])
    def test_onnx_computes_what_torch_computes(self, variant: str, tmp_path: Path) -> None:
        network = _network(variant)
        path = export_onnx(network, tmp_path / "skeleton.onnx", check=False)
        errors = check_parity(network, path, batches=(1, 5))
        assert set(errors) == set(network.OUTPUT_NAMES)
        assert [p.name for p in tmp_path.iterdir()] == ["skeleton.onnx"]

    def test_other_weights_are_noticed(self, light: SkeletonNetwork, tmp_path: Path) -> None:
        path = export_onnx(light, tmp_path / "skeleton.onnx", check=False)
        with pytest.raises(NumericalError, match="differs from torch"):
            check_parity(_network("light", seed=1), path)
