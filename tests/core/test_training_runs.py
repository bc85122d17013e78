"""What training runs share: schedules, resuming after a kill, several processes, overfitting."""

from __future__ import annotations

import csv
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch
from torch import nn
from training_samples import (
    CHANNELS,
    made_cache,
    refiner_training,
    skeleton_training,
    standing_scene,
    truth_of,
)

from mpmesh_core.body import load_body
from mpmesh_core.errors import MissingPackageError, MPMeshError, UsageError
from mpmesh_core.networks.refiner import RefinerConfig
from mpmesh_core.networks.skeleton import SkeletonNetwork
from mpmesh_core.refine import pose6d_from_rotations
from mpmesh_core.stopping import StopRequest
from mpmesh_core.training import skeleton_data
from mpmesh_core.training.augment import NO_AUGMENT
from mpmesh_core.training.curve import Curve
from mpmesh_core.training.equations import Form
from mpmesh_core.training.losses import RefinerLossWeights
from mpmesh_core.training.refiner import RefinerTrainer, train_refiner
from mpmesh_core.training.refiner_data import RefinerBatch
from mpmesh_core.training.settings import read_settings
from mpmesh_core.training.skeleton import SkeletonTrainer, SkeletonTraining, train_skeleton
from mpmesh_core.training.skeleton_losses import LossWeights
from mpmesh_core.training.skeleton_sources import scene_people

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people far away, where perspective does not matter."""
    folder = tmp_path_factory.mktemp("people")
    scenes = [standing_scene(seed, depth=10.0) for seed in range(8)]
    people = scene_people(scenes, load_body("open"), real=False, least_size=1)
    skeleton_data.write_people(folder, people)
    return folder


def curve(folder: Path) -> list[dict[str, float]]:
    with (folder / "curve.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def python(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=HERE, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def stop(number: int, frame: object) -> None:
    raise InterruptedError


@pytest.fixture
def signals_raise() -> Iterator[None]:
    """An error of its own, whatever other tests have made of them."""
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class TestSchedules:
    def test_exponential_is_a_factor_an_epoch(self, cache: Path, tmp_path: Path) -> None:
        config = refiner_training(
            tmp_path, cache, schedule="exponential", optimizer="adam", rate=1e-3, epochs=10, batch=5
        )
        trainer = RefinerTrainer(config)
        assert type(trainer.optimizer.optimizer) is torch.optim.Adam
        assert trainer.epoch_steps() == 2  # ten people, five a batch
        rates = []
        for step in range(6):
            trainer.step = step
            trainer.train_step(trainer.batch(step), trainer.progress())
            rates.append(trainer.optimizer.param_groups[0]["lr"])
        np.testing.assert_allclose(rates, 1e-3 * 0.9 ** np.array([0, 0, 1, 1, 2, 2]))
        trainer.step = 20
        assert trainer.progress() == 1.0

    def test_without_averaging_the_weights_are_the_last_ones(
        self, cache: Path, tmp_path: Path
    ) -> None:
        trainer = RefinerTrainer(refiner_training(tmp_path, cache, average=0.0))
        trainer.train_step(trainer.batch(0))
        for name, value in trainer.network.state_dict().items():
            assert torch.equal(trainer.average.state_dict()[name], value)

    def test_synchronised_norms_need_a_gpu(self, store: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="needs GPUs"):
            SkeletonTrainer(skeleton_training(tmp_path, store, norms="synchronised"))

    def test_frozen_norms_stay(self, store: Path, tmp_path: Path) -> None:
        trainer = SkeletonTrainer(skeleton_training(tmp_path, store, norms="frozen"))
        before = {k: v.clone() for k, v in trainer.network.named_buffers() if "running" in k}
        trainer.train_step(trainer._batches[0])
        after = dict(trainer.network.named_buffers())
        assert before
        assert all(torch.equal(after[name], value) for name, value in before.items())


class TestResuming:
    def test_after_a_kill_the_curve_is_that_without_it(self, cache: Path, tmp_path: Path) -> None:
        """A process is killed at a random moment, maybe while it writes; another goes on."""
        whole = refiner_training(tmp_path / "whole", cache, steps=60, save_every=7)
        train_refiner(whole)
        killed = refiner_training(tmp_path / "killed", cache, steps=60, save_every=7)
        child = python(
            "-c",
            "import sys; from pathlib import Path; from training_samples import refiner_training;"
            "from mpmesh_core.training.refiner import train_refiner;"
            "train_refiner(refiner_training(Path(sys.argv[1]), Path(sys.argv[2]), steps=60,"
            "save_every=7))",
            killed.output, str(cache),
        )  # fmt: skip
        rows, moment = random.randrange(2, 10), random.uniform(0, 0.1)  # [s]
        path = tmp_path / "killed" / "curve.csv"
        while child.poll() is None and (
            not path.is_file() or len(path.read_text().splitlines()) < rows
        ):
            time.sleep(0.005)
        assert child.poll() is None, child.communicate()[0]
        time.sleep(moment)
        child.kill()
        child.communicate()
        train_refiner(killed)
        expected, found = curve(tmp_path / "whole"), curve(tmp_path / "killed")
        assert [row["step"] for row in found] == [row["step"] for row in expected]
        for mine, other in zip(found, expected):
            assert mine == pytest.approx(other, rel=1e-3, abs=2e-5), f"killed at {rows}, {moment}"

    @pytest.mark.usefixtures("signals_raise")
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_the_run_after_its_step(
        self,
        cache: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: signal.Signals,
    ) -> None:
        learn = RefinerTrainer.train_step

        def interrupted(trainer: RefinerTrainer, *batch: Any) -> dict[str, torch.Tensor]:
            if trainer.step == 3:
                signal.raise_signal(number)
            return learn(trainer, *batch)

        with monkeypatch.context() as patch, pytest.raises(InterruptedError):
            patch.setattr(RefinerTrainer, "train_step", interrupted)
            train_refiner(refiner_training(tmp_path / "stopped", cache, steps=8))
        assert signal.getsignal(number) is stop
        trainer = RefinerTrainer(refiner_training(tmp_path / "stopped", cache, steps=8))
        assert trainer.step == 4
        trainer.run()
        train_refiner(refiner_training(tmp_path / "whole", cache, steps=8))
        assert curve(tmp_path / "stopped") == curve(tmp_path / "whole") != []

    @pytest.mark.usefixtures("signals_raise")
    def test_a_second_signal_does_not_wait(self) -> None:
        told: list[str] = []
        with StopRequest(told.append) as request:
            signal.raise_signal(signal.SIGINT)
            assert request.asked and len(told) == 1
            with pytest.raises(InterruptedError):
                signal.raise_signal(signal.SIGINT)
        with pytest.raises(InterruptedError):
            request.obey()

    def test_children_do_not_hear_of_it(self) -> None:
        """Also the first ones, whose queues start a process that lets SIGINT through again."""
        said = subprocess.run(
            [
                sys.executable, "-c",
                "import subprocess, multiprocessing\n"
                "from mpmesh_core.stopping import deaf_children\n"
                "with deaf_children():\n"
                "    queue = multiprocessing.get_context('spawn').Queue()\n"
                "    subprocess.run(['grep', 'SigBlk', '/proc/self/status'])",
            ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        blocked = int(said.stdout.split()[1], 16)
        assert blocked >> (signal.SIGINT - 1) & 1

    def test_what_lies_beyond_the_state_is_taken_back(self, tmp_path: Path) -> None:
        (tmp_path / "curve.csv").write_text("step,loss\n5,0.5\n10,0.4\n15,0.3\n20,0.")
        (tmp_path / "validation.jsonl").write_text('{"step": 9, "of": "a"}\n{"step": 14, "of')
        Curve(tmp_path, 12).add({"step": 15, "loss": 0.7})
        text = (tmp_path / "curve.csv").read_text().split()
        assert text == ["step,loss", "5,0.5", "10,0.4", "15,0.7"]
        assert b"\r" not in (tmp_path / "curve.csv").read_bytes()
        assert (tmp_path / "validation.jsonl").read_text() == '{"step": 9, "of": "a"}\n'

    @pytest.mark.parametrize("damage", ["cut", "settings"])
    def test_a_state_that_does_not_fit_is_told(
        self, cache: Path, tmp_path: Path, damage: str
    ) -> None:
        train_refiner(refiner_training(tmp_path, cache, steps=1))
        path = tmp_path / "state.pt"
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:1000])
        else:
            torch.save({"step": 1, "network": {}}, path)
        with pytest.raises(UsageError, match="is no state of a run with these settings"):
            train_refiner(refiner_training(tmp_path, cache, steps=2))


class TestSettings:
    @pytest.mark.parametrize(
        "word",
        [
            "steps=-3", "steps=0", "minutes=-1", "minutes=0", "epochs=0", "batch=0", "rate=-1",
            "workers=-1", "threads=0", "devices=0", "save_every=0", "log_every=0", "seed=-1",
            "average=1.5", "warmup=1", "precision=foo", "accelerator=tpu", "size=0", "size=100",
            "stores={a: -1}",
        ],
    )  # fmt: skip
    def test_impossible_ones_are_refused(self, word: str) -> None:
        with pytest.raises(UsageError, match=f"setting '{word.split('=')[0]}"):
            read_settings(SkeletonTraining, None, ["output=x", "stores={a: 1}", word])

    def test_missing_held_out_people_are_told_before_the_work(
        self, store: Path, tmp_path: Path
    ) -> None:
        held_out = (str(tmp_path / "nope"),)
        with pytest.raises(MPMeshError, match="nope"):
            SkeletonTrainer(skeleton_training(tmp_path / "run", store, validation=held_out))


class TestTensorBoard:
    def test_events_hold_the_curve(self, cache: Path, tmp_path: Path) -> None:
        accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        train_refiner(refiner_training(tmp_path, cache, steps=10, tensorboard=True))
        events = accumulator.EventAccumulator(str(tmp_path))
        events.Reload()
        shown = [(event.step, event.value) for event in events.Scalars("training/loss")]
        written = [(row["step"], row["loss"]) for row in curve(tmp_path)]
        np.testing.assert_allclose(shown, written, rtol=1e-5)

    def test_missing_package_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'mpmesh\[tensorboard\]'"):
            Curve(tmp_path, 0, tensorboard=True)


def small_runs(folder: Path, cache: Path, store: Path, batch: int) -> None:
    """A refiner and a skeleton network, for some steps, without masks and batch statistics."""
    unmasked = RefinerConfig(feature_channels=CHANNELS, width=32, mlp=32, mask_ratio=0.0)
    train_refiner(
        refiner_training(
            folder / "refiner", cache, batch=batch, steps=8, network=unmasked, log_every=1
        )
    )
    train_skeleton(
        skeleton_training(folder / "skeleton", store, batch=batch, norms="frozen", log_every=1)
    )


class TestProcesses:
    def test_two_have_the_curve_of_one(self, cache: Path, store: Path, tmp_path: Path) -> None:
        """The same people a step, half of them in each process, started by torchrun."""
        worker = tmp_path / "worker.py"
        worker.write_text(
            "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
            "from test_training_runs import small_runs\n"
            "small_runs(*map(Path, sys.argv[2:]), batch=4)\n"
        )
        child = python(
            "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            *map(str, (worker, HERE, tmp_path / "two", cache, store)),
        )  # fmt: skip
        small_runs(tmp_path / "one", cache, store, batch=8)
        text = child.communicate(timeout=300)[0]
        assert child.returncode == 0, text
        for name in ("refiner", "skeleton"):
            expected, found = curve(tmp_path / "one" / name), curve(tmp_path / "two" / name)
            assert len(found) == len(expected) > 0
            for mine, other in zip(found, expected):
                assert mine == pytest.approx(other, rel=2e-3, abs=1e-4), name

    def test_two_resume_with_the_curve_of_a_whole_run(self, cache: Path, tmp_path: Path) -> None:
        """Stopped in the middle of a line of the curve, with unlike people in each process."""
        worker = tmp_path / "worker.py"
        worker.write_text(
            "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
            "from test_training_runs import RefinerTrainer, refiner_training\n"
            "for folder, stops in (('whole', (None,)), ('stopped', (5, None))):\n"
            "    config = refiner_training(\n"
            "        Path(sys.argv[2]) / folder, Path(sys.argv[3]), batch=4, steps=9,\n"
            "        log_every=3, save_every=4,\n"
            "    )\n"
            "    for stop in stops:\n"
            "        RefinerTrainer(config).run(stop_at=stop)\n"
        )
        child = python(
            "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            *map(str, (worker, HERE, tmp_path, cache)),
        )  # fmt: skip
        text = child.communicate(timeout=300)[0]
        assert child.returncode == 0, text
        expected, found = curve(tmp_path / "whole"), curve(tmp_path / "stopped")
        assert [row["step"] for row in found] == [row["step"] for row in expected] == [3, 6, 9]
        for mine, other in zip(found, expected):
            assert mine == pytest.approx(other, rel=1e-4, abs=2e-5)


class Patches(nn.Module):
    """A backbone of two layers, in place of one that takes seconds a step."""

    def __init__(self, lateral: int, top: int) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, lateral, 16, 16), nn.Conv2d(lateral, top, 2, 2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps at strides 16 and 32."""
        lateral = self.fine(image).relu()
        return lateral, self.coarse(lateral).relu()


class SmallSkeleton(SkeletonTrainer):
    """A skeleton network on `Patches`."""

    def start(self) -> SkeletonNetwork:
        network = super().start()
        backbone = network.backbone
        network.backbone = Patches(backbone.lateral_channels, backbone.top_channels)
        return network


def remaining(terms: list[dict[str, float]]) -> dict[str, float]:
    """What is left of each loss term, 0..1."""
    return {name: terms[-1][name] / first for name, first in terms[0].items() if first > 0}


class TestOverfitting:
    """Eight samples by heart: each loss term falls by 95 %."""

    def test_skeleton(self, store: Path, tmp_path: Path) -> None:
        steps = 250
        weights = LossWeights(
            absolute=1.0, projection=1.0, twist=1.0, shape=1.0, bones=0, likelihood=0, extra=0
        )
        config = skeleton_training(
            tmp_path, store, steps=steps, batch=8, absolute_from=0.0, augment=NO_AUGMENT,
            rate=2e-3, head_rate=4e-3, joint_rate=2e-3, weight_decay=0.0, weights=weights,
            largest_gradient=None,
            warmup=0.03,
        )  # fmt: skip
        trainer = SmallSkeleton(config)
        people, rng = skeleton_data.PeopleStore(store), np.random.default_rng(0)
        samples = [people.crop(index, rng, NO_AUGMENT, config.size) for index in range(8)]
        batch = {
            name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
            for name in samples[0]
        }
        terms = [trainer.train_step(batch, step / steps) for step in range(steps)]
        left = remaining(terms)
        left.pop("spread_points")  # asks for a width that cells of this size cannot have
        for name in ("relative_points", "image_final", "projection_points", "absolute",
                     "twist", "shape"):  # fmt: skip
            assert name in left
        assert all(part < 0.05 for part in left.values()), left

    @pytest.mark.parametrize("form", ("paper", "robust"))
    def test_refiner(self, cache: Path, tmp_path: Path, form: Form) -> None:
        steps = 250
        weights = RefinerLossWeights(form=form, stay=0.0, pose=3.0, camera=0.3)
        config = refiner_training(
            tmp_path, cache, steps=steps, weights=weights, weight_decay=0.0, rate=5e-3,
            largest_gradient=None,
            network=RefinerConfig(
                feature_channels=CHANNELS, width=64, layers=1, mlp=128, mask_ratio=0.0
            ),
        )  # fmt: skip
        trainer = RefinerTrainer(config)
        truth = truth_of(trainer.body, 8, depth=30.0)
        start = trainer.network.example_inputs(8)
        start["features"] = torch.randn(8, CHANNELS, 8, 8)
        start["heatmaps"] = (20 * torch.randn(8, 24, 64)).softmax(2).unflatten(2, (8, 8))
        turned = roma.rotvec_to_rotmat(0.3 * torch.randn(8, 24, 3)) @ truth.rotations
        start["pose6d"], start["betas"] = pose6d_from_rotations(turned), 0 * truth.betas
        batch = RefinerBatch(start, truth, {})
        terms = [trainer.train_step(batch, step / steps) for step in range(steps)]
        left = remaining(terms)
        assert set(left) >= {"pose", "shape", "points", "image", "camera"}
        assert all(part < 0.05 for part in left.values()), left
