"""What README tells a user to type works."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import SHORT, run_command

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
LOOP = (PROJECT / "notebooks" / "OPERATIONS.md").read_text()  # goes on where README's example ends
PYTHON = "\n".join(re.findall(r"```python\n(.*?)```", README + LOOP, re.DOTALL))
COMMANDS = [line for line in SHELL.splitlines() if line.split()[:1] == ["admm-exp"]]
QUICK = {"tracking": "none", "model": "small_cnn"}
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
    short += [f"{key}={it}" for key, it in QUICK.items() if key not in asked]
    done = run_command(tmp_path, *shlex.split(line)[1:], *short)
    assert done.returncode == 0, done.stderr
    assert ("best per sparsity" if "-m" in shlex.split(line) else "finetuned") in done.stdout


@pytest.mark.parametrize("line", [c for c in COMMANDS if "mynet" in c])
def test_an_own_model_runs(tmp_path: Path, line: str) -> None:
    write_mynet(tmp_path)
    done = run_command(tmp_path, *shlex.split(line)[1:], *SHORT, "tracking=none")
    assert done.returncode == 0, done.stderr


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(PYTHON, scope)
    small = scope["small"]
    assert small[0].out_channels == 8  # type: ignore[index]
    assert (tmp_path / "pruning.png").stat().st_size > 10_000


def test_the_front_door_is_short() -> None:
    assert len(README.encode()) <= 10_000
    blocks = [b for b in re.split(r"\n\s*\n", README) if not b.startswith(("|", "```"))]
    assert max(len(block.split()) for block in blocks) <= 122


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]*)", README)
    assert links
    assert [link for link in links if link and not (PROJECT / link).exists()] == []


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
