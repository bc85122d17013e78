"""Weights of others: built here in the official layouts, against a ResNet-50 of official names."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mpmesh_core.errors import MissingFileError, UsageError, WeightsError
from mpmesh_core.networks.resnet import ResNet
from mpmesh_core.networks.resnet_import import import_backbone, official_names, read_state

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, R, G, B
BLOCKS = (3, 4, 6, 3)


class Block(nn.Module):
    """torchvision's Bottleneck (three convolutions) or BasicBlock (two), by its names."""

    def __init__(self, inputs: int, width: int, stride: int, deep: bool) -> None:
        super().__init__()
        outputs = 4 * width if deep else width
        kernels = (1, 3, 1) if deep else (3, 3)
        channels = (inputs, width, width, outputs) if deep else (inputs, width, outputs)
        self.strided = 2 if deep else 1  # the convolution that has the stride
        self.convs = len(kernels)
        for n, kernel in enumerate(kernels, 1):
            step = stride if n == self.strided else 1
            conv = nn.Conv2d(*channels[n - 1 : n + 1], kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{n}", conv)
            self.add_module(f"bn{n}", nn.BatchNorm2d(channels[n]))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor, odd: bool = False) -> Tensor:
        """With `odd`, worked out at every cell, of which the odd ones are taken."""
        y = x
        for n in range(1, self.convs + 1):
            conv = getattr(self, f"conv{n}")
            if odd and n == self.strided:
                y = nn.functional.conv2d(y, conv.weight, padding=1)[..., 1::2, 1::2]
            else:
                y = conv(y)
            y = getattr(self, f"bn{n}")(y)
            y = y.relu() if n < self.convs else y
        if self.downsample is not None:
            x = self.downsample(x[..., 1:, 1:] if odd else x)
        return (y + x).relu()


class Reference(nn.Module):
    """torchvision's ResNet-50 or 34, by its names."""

    def __init__(self, deep: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = 64
        for number, blocks in enumerate(BLOCKS, 1):
            width, stride = 32 << number, 1 if number == 1 else 2
            layer = [Block(channels, width, stride, deep)]
            channels = 4 * width if deep else width
            layer += [Block(channels, width, 1, deep) for _ in range(blocks - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*layer))
        self.fc = nn.Linear(channels, 1000)

    def stride16(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        return self.layer3(self.layer2(self.layer1(x)))


def lively(deep: bool) -> Reference:
    """Random weights, norms included."""
    torch.manual_seed(3)
    network = Reference(deep).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


@pytest.fixture(scope="module")
def reference() -> Reference:
    return lively(deep=True)


def saved(state: dict, path: Path) -> Path:
    torch.save(state, path)
    return path


def hybrik(reference: Reference) -> dict[str, Tensor]:
    """HybrIK's layout around the same backbone."""
    state = {f"preact.{n}": v for n, v in reference.state_dict().items() if not n.startswith("fc.")}
    heads = {"decshape": (10, 1024), "decphi": (46, 1024), "deccam": (3, 1024), "fc1": (1024, 2048)}
    for name, shape in heads.items():
        state |= {f"{name}.weight": torch.zeros(shape), f"{name}.bias": torch.zeros(shape[0])}
    return state | {"init_shape": torch.zeros(10), "smpl.shapedirs": torch.zeros(4, 3, 10)}


def grey_padded(image: Tensor, mean: tuple, deviation: tuple) -> Tensor:
    """A picture 0..1 as others take it, with the mid-grey around it that our padding means."""
    around = nn.functional.pad(image, (3,) * 4, value=0.5)
    centre, scale = torch.tensor(mean), torch.tensor(deviation)
    return (around - centre[:, None, None]) / scale[:, None, None]


def expected(reference: Reference, image: Tensor, mean: tuple, deviation: tuple):
    """Features at stride 16, and those of stride 32 on odd cells, worked out by the reference."""
    reference.conv1.padding = (0, 0)  # the grey is there already
    x = reference.stride16(grey_padded(image, mean, deviation))
    reference.conv1.padding = (3, 3)
    return x, reference.layer4[1:](reference.layer4[0](x, odd=True))


class TestImport:
    @pytest.mark.parametrize(
        ("kind", "deep", "tensors", "mean", "deviation"),
        [
            ("resnet50", True, 318, MEAN, DEVIATION),
            ("hybrik", True, 318, (0.406, 0.457, 0.480), (0.225, 0.224, 0.229)),
            ("hybrik", False, 216, (0.406, 0.457, 0.480), (0.225, 0.224, 0.229)),
        ],
    )
    @torch.inference_mode()
    def test_features_are_those_of_the_original(
        self, tmp_path: Path, kind, deep: bool, tensors: int, mean: tuple, deviation: tuple
    ) -> None:
        reference = lively(deep)
        state = reference.state_dict() if kind == "resnet50" else hybrik(reference)
        network, report = import_backbone(saved(state, tmp_path / "weights.pth"), kind)
        assert report.complete and len(report.matched) == tensors
        image = torch.rand(2, 3, 128, 96)
        found = network.backbone(2 * image - 1)
        for ours, theirs in zip(found, expected(reference, image, mean, deviation)):
            assert theirs.abs().max() > 0.1
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)

    @torch.inference_mode()
    def test_only_the_border_of_the_picture_differs(
        self, reference: Reference, tmp_path: Path
    ) -> None:
        """There others pad with their mean colour, we with grey."""
        path = saved(reference.state_dict(), tmp_path / "weights.pth")
        stem = import_backbone(path, "resnet50")[0].backbone.stem
        image = torch.rand(1, 3, 64, 64)
        centre, scale = (torch.tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
        theirs = reference.bn1(reference.conv1((image - centre) / scale))
        difference = (stem[1](stem[0](2 * image - 1)) - theirs).abs()
        assert difference[..., 2:-2, 2:-2].max() < 1e-5
        assert difference.max() > 1e-3

    def test_names_are_the_official_ones(self, reference: Reference) -> None:
        names = official_names(ResNet())
        theirs = {name for name in reference.state_dict() if not name.startswith("fc.")}
        assert set(names.values()) == theirs and len(names) == len(theirs)

    def test_what_is_left_is_told(self, reference: Reference, tmp_path: Path) -> None:
        _, report = import_backbone(saved(hybrik(reference), tmp_path / "w.pth"), "hybrik")
        assert report.left == {
            "decshape": 2, "decphi": 2, "deccam": 2, "fc1": 2, "init_shape": 1, "smpl": 1,
        }  # fmt: skip

    @pytest.mark.parametrize("wrap", ["state_dict", "model", "module.", "no counters"])
    def test_usual_wrappings(self, reference: Reference, tmp_path: Path, wrap: str) -> None:
        state = dict(reference.state_dict())
        if wrap == "module.":
            state = {f"module.{name}": value for name, value in state.items()}
        elif wrap == "no counters":
            state = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
        else:
            state = {wrap: state, "epoch": 3}
        _, report = import_backbone(saved(state, tmp_path / "w.pth"), "resnet50")
        assert report.complete

    def test_same_file_same_network(self, reference: Reference, tmp_path: Path) -> None:
        path = saved(reference.state_dict(), tmp_path / "w.pth")
        first, second = (import_backbone(path, "resnet50")[0].state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_missing_and_misshapen_tensors(self, reference: Reference, tmp_path: Path) -> None:
        state = dict(reference.state_dict())
        del state["layer2.1.bn2.weight"]
        state["layer1.0.conv2.weight"] = torch.zeros(64, 64, 5, 5)
        # a view of one number, which must not be written out
        state["layer1.0.conv1.weight"] = torch.zeros(1).expand(10**7, 10**7)
        _, report = import_backbone(saved(state, tmp_path / "w.pth"), "resnet50")
        assert report.missing == ["layer2.1.bn2.weight"]
        assert report.differ["layer1.0.conv2.weight"] == ((64, 64, 5, 5), (64, 64, 3, 3))
        assert "layer1.0.conv1.weight" in report.differ and not report.complete


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("names", "kind", "message"),
        [
            (["conv1.weight", "layer1.1.conv1.weight"], "resnet50", "a ResNet-18"),
            (["conv1.weight", "layer1.0.conv3.weight", "layer3.6.conv1.weight"], "resnet50",
             "a ResNet-101 or 152"),
            (["preact.conv1.weight", "preact.stage2.0.x"], "hybrik", "an HRNet"),
            (["preact.conv1.weight"], "resnet50", "--kind hybrik"),
            (["conv1.weight"], "hybrik", "--kind resnet50"),
            (["encoder.weight"], "resnet50", "no resnet50 checkpoint"),
        ],
    )  # fmt: skip
    def test_other_networks(self, tmp_path: Path, names: list[str], kind, message: str) -> None:
        path = saved({name: torch.zeros(1) for name in names}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=message):
            import_backbone(path, kind)

    @pytest.mark.parametrize(
        ("name", "value", "what"),
        [
            ("layer4.2.bn3.bias", torch.full((2048,), torch.nan), "NaN"),
            ("bn1.running_mean", torch.full((64,), -torch.inf), "NaN or infinity"),
            ("bn1.bias", torch.full((64,), 1e300, dtype=torch.float64), "NaN or infinity"),
            ("bn1.running_var", -torch.ones(64), "below 0"),
            ("conv1.weight", torch.zeros(64, 3, 7, 7, dtype=torch.int32), "torch.int32"),
        ],
    )
    def test_values_that_nobody_trained(
        self, reference: Reference, tmp_path: Path, name: str, value: Tensor, what: str
    ) -> None:
        state = dict(reference.state_dict()) | {name: value}
        with pytest.raises(WeightsError, match=rf"w\.pth: {name} holds .*{what}"):
            import_backbone(saved(state, tmp_path / "w.pth"), "resnet50")

    def test_text(self, tmp_path: Path) -> None:
        (tmp_path / "w.pth").write_text("hello\n")
        with pytest.raises(WeightsError, match=r"w\.pth is no readable PyTorch checkpoint$"):
            read_state(tmp_path / "w.pth")

    def test_no_file_and_no_kind(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"absent\.pth"):
            import_backbone(tmp_path / "absent.pth", "resnet50")
        with pytest.raises(UsageError, match="vgg"):
            import_backbone(tmp_path / "absent.pth", "vgg")  # type: ignore[arg-type]

    @pytest.mark.parametrize("content", [3, [torch.zeros(1)], {"epoch": 3}, {}])
    def test_no_named_tensors(self, tmp_path: Path, content: object) -> None:
        with pytest.raises(WeightsError, match="named tensors"):
            read_state(saved(content, tmp_path / "w.pth"))  # type: ignore[arg-type]

    def test_code_is_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self):
                return Path.touch, (tmp_path / "run",)

        (tmp_path / "w.pth").write_bytes(pickle.dumps({"conv1.weight": Evil()}))
        with pytest.raises(WeightsError, match="no readable PyTorch checkpoint"):
            read_state(tmp_path / "w.pth")
        torch.save({"conv1.weight": Evil()}, tmp_path / "w2.pth")
        with pytest.raises(WeightsError, match="no readable PyTorch checkpoint"):
            read_state(tmp_path / "w2.pth")
        assert not (tmp_path / "run").exists()

    def test_compressed_archives_are_not_opened(self, tmp_path: Path) -> None:
        """Stored, a checkpoint is as large as its tensors; compressed, a bomb is small."""
        path = tmp_path / "w.pth"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(10**7))
        with pytest.raises(WeightsError, match="compressed archive"):
            read_state(path)

    def test_a_flipped_bit_in_a_tensor(self, tmp_path: Path) -> None:
        path = saved({"conv1.weight": torch.ones(64, 3, 7, 7)}, tmp_path / "w.pth")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"w\.pth is damaged: .*checksum"):
            read_state(path)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_damaged_bytes_give_one_line(self, data, tmp_path_factory) -> None:
        buffer = io.BytesIO()
        legacy = data.draw(st.booleans())
        written = torch.arange(6.0).reshape(2, 3)
        torch.save(
            {"conv1.weight": written},
            buffer,
            _use_new_zipfile_serialization=not legacy,
        )
        whole = bytearray(buffer.getvalue())
        whole = whole[: data.draw(st.integers(0, len(whole)))]
        for _ in range(data.draw(st.integers(0, 3)) if whole else 0):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.mktemp("damaged") / "w.pth"
        path.write_bytes(whole)
        try:
            state = read_state(path)
        except WeightsError as error:
            assert "\n" not in str(error)
        else:
            assert all(torch.is_tensor(value) for value in state.values())
            # Archives have checksums, files of the older format do not.
            assert legacy or torch.equal(state["conv1.weight"], written)
