"""The whole job on files in the real formats."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, run_command
from support.real_formats import (
    write_cifar10,
    write_cifar100,
    write_first_idx,
    write_image_folder,
    write_mnist,
)

from admm_exp.data.mnist import FASHION_MNIST

PACKAGED = Path(str(FASHION_MNIST.packaged))
SHORT = (
    "tracking=none",
    "schedule.batch_size=32",
    "schedule.dense.epochs=4",
    "schedule.admm_iterations=2",
    "schedule.admm_epoch=1",
    "schedule.finetune.epochs=2",
    "figures=none",
    "model.width=8",
)
ONE_EPOCH = ("schedule.dense.epochs=1", "schedule.admm_iterations=1", "schedule.finetune.epochs=1")


def report_in(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("outputs/runs/*/report.json")
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def run_patched(folder: Path, dataset: str, sums: dict[str, Any], *overrides: str) -> Done:
    """Run the command where torchvision knows the checksums of the files a test wrote."""
    known = [f"torchvision.datasets.{dataset}.{name} = {value!r}" for name, value in sums.items()]
    return run_command(folder, *overrides, before="\n".join(["import torchvision", *known]))


def test_the_whole_job_runs_on_cifar10_files(tmp_path: Path) -> None:
    sums = write_cifar10(tmp_path / "outputs" / "data", n_per_batch=80, seed=0)
    done = run_patched(
        tmp_path, "CIFAR10", sums, "dataset=cifar10", "model=resnet8", "model.width=8", *SHORT[:-1]
    )
    assert done.returncode == 0, done.stderr
    report = report_in(tmp_path)
    assert report["models"]["dense"]["test_accuracy"] > 0.5  # ten classes that a network can learn
    assert report["surgery"]["max_abs_difference"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cifar", "imagenet"])
def test_the_long_schedules_train_on_files_of_their_format(tmp_path: Path, schedule: str) -> None:
    """Shortened; as they stand, with the reduced W-step and rho=auto, they take days here."""
    sums = write_cifar10(tmp_path / "outputs" / "data", n_per_batch=80, seed=0)
    small = ("dataset=cifar10", "model=resnet8", *SHORT)
    done = run_patched(tmp_path, "CIFAR10", sums, *small, f"schedule={schedule}")
    assert done.returncode == 0, done.stderr
    report = report_in(tmp_path)
    assert report["config"]["schedule"]["name"] == schedule
    assert report["config"]["schedule"]["w_step"] == "reduced"
    assert report["admm"]["stopped"]["pull"] == pytest.approx(9.2)
    assert report["surgery"]["max_abs_difference"] < 1e-4


@pytest.mark.long
def test_the_whole_job_runs_on_cifar100_files(tmp_path: Path) -> None:
    sums = write_cifar100(tmp_path / "outputs" / "data", n_train=400, n_test=100, seed=0)
    done = run_patched(tmp_path, "CIFAR100", sums, "dataset=cifar100", *SHORT, *ONE_EPOCH)
    assert done.returncode == 0, done.stderr
    assert report_in(tmp_path)["config"]["dataset"]["name"] == "cifar100"


@pytest.mark.long
def test_cifar_images_can_be_resized(tmp_path: Path) -> None:
    sums = write_cifar10(tmp_path / "outputs" / "data", n_per_batch=40, seed=0)
    resized = ("dataset=cifar10", "dataset.img_size=48", *SHORT, *ONE_EPOCH)
    done = run_patched(tmp_path, "CIFAR10", sums, *resized)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("network", ["model=lenet5", "model=resnet8"])
def test_the_whole_job_runs_on_fashion_mnist(tmp_path: Path, network: str) -> None:
    """On real images where Debian's package is installed, on made ones otherwise."""
    files = tmp_path / "outputs" / "data" / "FashionMNIST" / "raw"
    if PACKAGED.is_dir():
        write_first_idx(PACKAGED, files, 1100, 300)
    else:
        write_mnist(files, 1100, 300, suffix=".gz")
    short = [o for o in SHORT if "resnet" in network or not o.startswith("model.")]
    done = run_command(
        tmp_path,
        *("dataset=fashion_mnist", "dataset.train_images=1000", "schedule=mnist", network, *short),
    )
    assert done.returncode == 0, done.stderr
    report = report_in(tmp_path)
    assert report["models"]["dense"]["test_accuracy"] > 0.5  # ten classes
    assert report["config"]["dataset"]["train_images"] == 1000
    assert report["surgery"]["max_abs_difference"] < 1e-4


@pytest.mark.parametrize("suffix", [".png", pytest.param(".jpg", marks=pytest.mark.long)])
def test_the_whole_job_runs_on_an_image_folder(tmp_path: Path, suffix: str) -> None:
    root = tmp_path / "images"
    write_image_folder(root / "train", ["cat", "dog", "owl"], 24, 40, suffix, seed=0)
    write_image_folder(root / "val", ["cat", "dog", "owl"], 8, 40, suffix, seed=1)
    work = tmp_path / "work"
    work.mkdir()
    workers = min(2, os.cpu_count() or 1)
    done = run_command(
        work,
        "dataset=imagefolder",
        f"dataset.root={root}",
        "dataset.img_size=32",
        f"dataset.workers={workers}",
        *SHORT,
        *ONE_EPOCH,
    )
    assert done.returncode == 0, done.stderr
    assert report_in(work)["layers"][0]["name"] == "conv1"


@pytest.mark.long
def test_a_torchvision_network_runs_the_whole_job(tmp_path: Path) -> None:
    done = run_command(
        tmp_path,
        "model=torchvision",
        "model.name=shufflenet_v2_x0_5",
        "dataset.img_size=32",
        *[o for o in SHORT if not o.startswith("model.")],
        "schedule.dense.epochs=1",
    )
    assert done.returncode == 0, done.stderr
    surgery = report_in(tmp_path)["surgery"]
    assert (surgery["is_cut"], surgery["groups"]) == (True, 20)
    # Outputs of a network that has hardly learnt reach 20: rounding (7e-13 in double precision).
    assert surgery["max_abs_difference"] < 2e-3
