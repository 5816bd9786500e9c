"""What a user sees when a run cannot be: one sentence, exit code 1, nothing written."""

import errno
import logging
from pathlib import Path

import pytest
from conftest import Done, run_command
from support.in_process import refusal_of

from admm_exp.app.main import main
from admm_exp.app.wording import PlainSigns, explain
from admm_exp.errors import ConfigError

SENTENCES = {
    "rhoo=1": r"unknown setting 'rhoo'; did you mean 'rho'?",
    "admm_iterations=3": "did you mean 'schedule.admm_iterations'?",
    "schedule.admm_lrr=3": "did you mean 'schedule.admm_lr'?",
    "model.widht=3": "did you mean 'model.width'?",
    "+model.widht=3": "did you mean 'model.width'?",
    "+unknown=1": "unknown setting 'unknown'; known settings: dataset, model,",
    "datset=digits": "did you mean 'dataset'?",
    "dataset=cifer10": "dataset=cifer10 is unknown; did you mean 'cifar10'? available: cifar10,",
    "metric=l3_norm": "metric=l3_norm is unknown; did you mean 'l2_norm'? available: bn_scale,",
    "+experiment=nothing": "experiment=nothing is unknown; available:",
    "experiment=resnet56_cifar10": "write +experiment=NAME",
    "sparsity=1.0": "sparsity must be in [0, 1), got 1.0",
    "sparsity=-0.1": "sparsity must be in [0, 1), got -0.1",
    "sparsity=abc": "sparsity must be a number, got abc",
    "sparsity=null": "sparsity must have a value, got null",
    "rho=0": "rho must be a number greater than 0 or auto, got 0",
    "rho=-1": "rho must be a number greater than 0 or auto, got -1",
    "rho=inf": "rho must be a number greater than 0 or auto, got inf",
    "rho=large": "rho must be a number greater than 0 or auto, got 'large'",
    "rho=1,2": "rho=1,2 gives several values: add -m to sweep over them",
    "metric=[1,2]": "metric=[1,2] is not one option of metric: write metric=OPTION, such as bn_sc",
    "metric=[l1_norm,l2_norm]": "metric=[l1_norm,l2_norm] is not one option of metric: write met",
    "-m metric=[l1_norm],l2_norm": "is not one option of metric: write metric=OPTION, such as bn",
    "-m metric=range(1,3)": "metric=range(1,3) is not one option of metric: write metric=OPTION",
    "-m seed=0,1 schedule=quick,null": "schedule=quick,null is not one option of schedule: write",
    "dataset=null": "dataset=null is not one option of dataset: write dataset=OPTION, such as cif",
    "model=true": "model=true is not one option of model: write model=OPTION, such as ",
    "hydra/launcher=null": "write hydra/launcher=OPTION, such as process, process_gpu, ray_c",
    "~tracking": "~tracking is not one option of tracking: write tracking=OPTION, such as mlflow,",
    "+experiment=null": "+experiment=null is not one option of experiment: write experiment=",
    "+experiment=[1]": "write KEY=VALUE, and GROUP=OPTION as --help lists them (options are names)",
    "rho=[": "'rho=[' is not a setting, write KEY=VALUE",
    "schedule.admm_iterations=0": "schedule.admm_iterations must be at least 1, got 0",
    "schedule.admm_epoch=1.5": "schedule.admm_epoch must be a whole number, got 1.5",
    "schedule.dense.decay=cosin": "must be one of constant, cosine, step, got cosin",
    "seed=-1": "seed must be at least 0, got -1",
    "dataset=cifar10": "cifar10 was not found or is damaged in outputs/data",
    "dataset=imagefolder dataset.root=nowhere": "nowhere",
    "dataset.img_size=big": "dataset.img_size must be",
    "dataset.img_size=1.0": "dataset.img_size must be a valid integer, got 1.0",
    "schedule.dense.lr=inf": "schedule.dense.lr must be a finite number, got inf",
    "schedule.dense.warmup=1": "schedule.dense.warmup must be less than 1",
    "schedule.batch_size=5000": "batch_size must be at most 1295",
    "device=cuda:77": "device=cuda:77 is not available here",
    "layers=nowhere.yaml": "layers=nowhere.yaml cannot be read",
    "layers=/dev/zero": "layers must be a file, got /dev/zero, which is a device or a pipe",
    "model=lenet5": "lenet5 needs images of at least 28x28 pixels, got 8x8",
    "model=torchvision model.name=resnet19": "resnet19",
    "model._target_=mynet.Net": "model cannot be built by mynet.Net: No module named 'mynet'",
    "tracking_uri=http://127.0.0.1:9": "nothing answers at tracking_uri http://127.0.0.1:9",
}


def assert_refused(done: Done, sentence: str, folder: Path) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]
    assert not list(folder.iterdir())


@pytest.mark.parametrize("overrides", ["rhoo=1", "sparsity=1.0", "dataset=cifar10"])
def test_a_refusal_is_a_line_on_stderr_and_exit_code_1(tmp_path: Path, overrides: str) -> None:
    done = run_command(tmp_path, overrides)
    assert_refused(done, SENTENCES[overrides], tmp_path)


@pytest.mark.parametrize(("overrides", "sentence"), SENTENCES.items(), ids=list(SENTENCES))
def test_bad_input_is_refused_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    overrides: str,
    sentence: str,
) -> None:
    told = refusal_of(monkeypatch, main, tmp_path, *overrides.split())
    assert told.startswith("error: ")
    assert len(told.splitlines()) == 1, told
    assert sentence in told
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_a_layers_file_with_an_unknown_layer_is_refused(tmp_path: Path) -> None:
    layers = tmp_path / "given" / "layers.yaml"
    layers.parent.mkdir()
    layers.write_text("sparsity: {default: 0.5, layer1.0.conv9: 0.3}\n")
    work = tmp_path / "work"
    work.mkdir()
    done = run_command(work, f"layers={layers}")
    assert_refused(done, "unknown layer 'layer1.0.conv9'", work)


def test_a_network_with_nothing_to_prune_is_refused(tmp_path: Path) -> None:
    package, work = tmp_path / "package", tmp_path / "work"
    package.mkdir()
    work.mkdir()
    (package / "onelayer.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    done = run_command(
        work, "model._target_=onelayer.net", "~model.width", env={"PYTHONPATH": str(package)}
    )
    assert_refused(done, "the model has nothing to prune", work)


def test_an_unwritable_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file where the folder should be")
    done = run_command(tmp_path, "tracking=none")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EDQUOT, errno.ENOSPC])
def test_a_file_that_finds_no_room_is_named(number: int) -> None:
    said = explain(OSError(number, "no room", "/a/sweep.md"))
    assert said == "error: /a/sweep.md cannot be written (no room): free it or run elsewhere"


def test_the_traceback_is_there_for_those_who_ask(tmp_path: Path) -> None:
    done = run_command(tmp_path, "sparsity=2", env={"HYDRA_FULL_ERROR": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_help_loads_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    code = (
        "import contextlib, sys, admm_exp.app\n"
        "sys.argv = ['admm-exp', '--help']\n"
        "with contextlib.suppress(SystemExit):\n"
        "    admm_exp.app.main()\n"
        "assert not {'torch', 'mlflow', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "import gc\n"
        "assert gc.get_threshold()[0] == 10_000, gc.get_threshold()\n"  # else imports take longer
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "== Groups" in done.stdout


def test_what_a_terminal_would_obey_is_shown_as_text() -> None:
    told = explain(ConfigError("name=a\nb\x1b[2J is wrong, \u202eé is not"))
    assert told == r"error: name=a\nb\x1b[2J is wrong, \u202eé is not"


def test_a_name_that_no_file_can_have_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as raised:
        (tmp_path / ("x" * 300)).read_text()
    assert explain(raised.value).startswith(f"error: {tmp_path}/xxx")
    assert explain(raised.value).endswith("is no name of a file (File name too long)")


def test_a_warning_obeys_no_sign_of_a_name() -> None:
    record = logging.LogRecord("admm_exp.x", 30, "", 0, "%s is gone", ("a\x1b[2J\nerror: b",), None)
    assert PlainSigns().format(record) == "a\\x1b[2J\\nerror: b is gone"
    record.name = "torch"
    assert PlainSigns().format(record) == "a\\x1b[2J\nerror: b is gone"
