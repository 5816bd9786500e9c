"""What README tells a user to type works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SHORT, clean_environment, run_command

from admm_exp.config.check import known_keys

README = (Path(__file__).parent.parent / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
PYTHON = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
COMMANDS = [line for line in SHELL.splitlines() if line.split()[:1] == ["admm-exp"]]
OTHERS = {
    "admm-exp-report": "admm_exp.app.report_command",
    "admm-exp-search": "admm_exp.app.search",
    "admm-exp-ui": "admm_exp.app.ui_command",
}
NEEDS_MORE_THAN_DIGITS = ("dataset=", "+experiment=", "--help", "mynet")


@pytest.mark.parametrize("line", [c for c in COMMANDS if " -m " not in c])
def test_every_command_composes(tmp_path: Path, line: str) -> None:
    write_mynet(tmp_path)
    arguments = [a for a in shlex.split(line)[1:] if a != "--help"]
    composed = run_command(tmp_path, *arguments, "--cfg", "job")
    assert composed.returncode == 0, composed.stderr


@pytest.mark.parametrize(
    "line", [c for c in COMMANDS if not any(word in c for word in NEEDS_MORE_THAN_DIGITS)]
)
def test_every_command_on_digits_runs(tmp_path: Path, line: str) -> None:
    asked = {word.partition("=")[0] for word in shlex.split(line)}
    short = [setting for setting in SHORT if setting.partition("=")[0] not in asked]
    tracking = [] if "tracking" in asked else ["tracking=none"]
    done = run_command(tmp_path, *shlex.split(line)[1:], *short, *tracking)
    assert done.returncode == 0, done.stderr
    assert ("best per sparsity" if "-m" in shlex.split(line) else "finetuned") in done.stdout


@pytest.mark.parametrize(
    "line", [line for line in SHELL.splitlines() if line.partition(" ")[0] in OTHERS]
)
def test_every_other_command_composes(tmp_path: Path, line: str) -> None:
    command, *arguments = shlex.split(line, comments=True)
    code = f"from {OTHERS[command]} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--cfg", "job"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [c for c in COMMANDS if "mynet" in c])
def test_an_own_model_runs(tmp_path: Path, line: str) -> None:
    write_mynet(tmp_path)
    done = run_command(tmp_path, *shlex.split(line)[1:], *SHORT, "tracking=none")
    assert done.returncode == 0, done.stderr


def test_the_python_examples_run() -> None:
    scope: dict[str, object] = {}
    exec(PYTHON, scope)
    small = scope["small"]
    assert small[0].out_channels == 8  # type: ignore[index]


@pytest.mark.parametrize("key", [k for k in known_keys() if k.count(".") < 2])
def test_the_settings_table_names_every_setting(key: str) -> None:
    table = README[README.index("## Settings") : README.index("## Your own model")]
    is_group_name = key.endswith(".name")
    assert is_group_name or any(f"`{key}{end}`" in table for end in ("", "=", ".*"))


def write_mynet(folder: Path) -> None:
    (folder / "mynets.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, in_channels):\n"
        "    return nn.Sequential(\n"
        "        nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),\n"
        "        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))\n"
    )
    conf = folder / "myconf" / "model"
    conf.mkdir(parents=True)
    (conf / "mynet.yaml").write_text("_target_: mynets.net\nname: mynet\n")
