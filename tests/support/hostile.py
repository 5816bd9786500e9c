"""Run folders that someone else made, with what each would do if it were believed."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from admm_exp.app.main import conf_dir
from admm_exp.config.settings import ExperimentConfig

Settings = dict[str, Any]
Hostile = Callable[[Settings, Path, Path], "str | None"]

OWN_NET = "admm_exp.models.lenet.small_cnn"
CANARY = "owned"


@cache
def composed() -> Any:
    GlobalHydra.instance().clear()
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    short = ["model=small_cnn", "schedule.dense.epochs=1", "schedule.admm_iterations=1"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        found = compose("config", overrides=[*short, "schedule.finetune.epochs=1"])
    return OmegaConf.to_container(found, resolve=True, enum_to_str=True)


def genuine() -> Settings:
    settings: Settings = json.loads(json.dumps(composed()))
    return settings


def part(group: str, target: Any, /, **arguments: Any) -> Hostile:
    """Let a group be built by a target; CANARY in an argument becomes the file that proves it."""

    def change(settings: Settings, _: Path, outside: Path) -> None:
        proof = str(outside / CANARY)
        filled = json.loads(json.dumps(arguments).replace(CANARY, proof))
        settings[group] = {"name": "x", "_target_": target, **filled}

    return change


def value(key: str, text: Any) -> Hostile:
    """Set a dotted key."""

    def change(settings: Settings, _: Path, outside: Path) -> None:
        *groups, leaf = key.split(".")
        for group in groups:
            settings = settings[group]
        settings[leaf] = json.loads(json.dumps(text).replace(CANARY, str(outside / CANARY)))

    return change


def text(content: str) -> Hostile:
    """Replace all settings by a text."""
    return lambda settings, run, outside: content.replace(CANARY, str(outside / CANARY))


def link(name: str, target: str) -> Hostile:
    """Replace a file of the run by a link to what the user owns."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(outside / target)

    return change


def pipe(name: str) -> Hostile:
    def change(settings: Settings, run: Path, outside: Path) -> None:
        path = run / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)

    return change


def journal(*entries: object) -> Hostile:
    def change(settings: Settings, run: Path, outside: Path) -> None:
        (run / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))

    return change


ZOO = "admm_exp.models.timm_zoo"
TOUCH = f"touch {CANARY}"
SYSTEM = {"_target_": "os.system", "command": TOUCH}
CREATE = "${oc.create:{_target_: os.system, command: 'touch " + CANARY + "'}}"
RUN = {"args": ["touch", CANARY]}
BOMB = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(f'*{a}' for _ in range(9))}]\n" for a, b in pairwise("abcdefghi")
)
HOSTILE: dict[str, Hostile] = {
    "a module that ours imports": part(
        "dataset", "admm_exp.training.pretrained.torch.load", f=CANARY, weights_only=False
    ),
    "a module that a part's module imports": part("model", "admm_exp.models.lenet.nn.Linear"),
    "a module two imports away": part("model", "admm_exp.models.lenet.torch.hub.load", source="x"),
    "subprocess": part("model", "subprocess.run", **RUN),
    "os.system": part("model", "os.system", command=TOUCH),
    "exec": part("model", "builtins.exec", _args_=[f"open('{CANARY}', 'w')"]),
    "eval": part("metric", "builtins.eval", _args_=[f"open('{CANARY}', 'w')"]),
    "open": part("metric", "builtins.open", file=CANARY, mode="w"),
    "partial": part("model", "functools.partial", _args_=[SYSTEM]),
    "hydra's own lookup": part("model", "hydra.utils.get_method", path="os.system"),
    "hydra's own call": part("model", "hydra.utils.call", config=SYSTEM),
    "our own build": part("model", "admm_exp.app.instantiate.build", group="x", part=SYSTEM),
    "our own git": part(
        "model", "admm_exp.tracking.provenance.ask_git", _args_=["-c", f"alias.x=!{TOUCH}", "x"]
    ),
    "our own writing": part(
        "model", "admm_exp.training.checkpoint.write_atomically", path=CANARY, content="x"
    ),
    "our own report": part("model", "admm_exp.report.run.write_report", report={}, folder=CANARY),
    "our own process": part("model", "admm_exp.tracking.server.subprocess.run", **RUN),
    "a name of another package that begins like ours": part("model", "admm_exp_models.net"),
    "a name that is no name": part("model", "admm_exp.models.lenet:lenet5"),
    "another package's name with a colon": part("model", "os:system", command=TOUCH),
    "what a function carries along": part("model", "admm_exp.models.lenet.lenet5.__globals__"),
    "a method of a part": part("model", "admm_exp.models.lenet.LeNet5.load_state_dict"),
    "a private function": part("model", "admm_exp.models.torchvision_zoo._build"),
    "a module in the current folder": part("model", "evil.net"),
    "a module that does something when imported": part("model", "antigravity.fly"),
    "a part of a part": value("model.extra", [{"deeper": SYSTEM}]),
    "a part in a tuple of lists": value("dataset.root", [[[SYSTEM]]]),
    "the train function": part("train_fn", "os.system", command=TOUCH),
    "the validate function": part("validate_fn", "os.system", command=TOUCH),
    "the granularity": part("granularity", "os.system", command=TOUCH),
    "the method": part("method", "os.system", command=TOUCH),
    "the rho policy": part("rho_policy", "os.system", command=TOUCH),
    "a target that is a list": part("model", ["os.system"], command=TOUCH),
    "a target that is a part": part("model", SYSTEM),
    "a target that is worked out": part("model", "${name}"),
    "a partial part": part("model", OWN_NET, _partial_=True),
    "arguments by position": part("model", OWN_NET, _args_=[1, 2]),
    "a part that is not recursive": part("model", OWN_NET, _recursive_=False, extra=SYSTEM),
    "another conversion": part("model", OWN_NET, _convert_="object"),
    "oc.create": value("model.width", CREATE),
    "oc.create as a whole group": value("model", CREATE),
    "oc.env": value("name", "${oc.env:HOME}"),
    "oc.decode": value("schedule.batch_size", "${oc.decode:'64'}"),
    "oc.env in oc.decode": value("name", "${oc.decode:${oc.env:USER,x}}"),
    "our own resolver": value("layers", "${conf:../../secret}"),
    "hydra's resolver": value("name", "${hydra:runtime.cwd}"),
    "an interpolation in the middle": value("name", "a${seed}b"),
    "an interpolation in a list": value("dataset.extra", [1, ["${seed}"]]),
    "an interpolation in a key": value("dataset", {"name": "x", "${oc.env:HOME}": 1}),
    "an address that is worked out": value("tracking_uri", "${oc.env:HOME}"),
    "callbacks of Hydra": value("hydra", {"callbacks": {"x": SYSTEM}}),
    "a defaults list": value("defaults", [{"model": "/etc/passwd"}]),
    "a search path": value("hydra", {"searchpath": ["file:///tmp"]}),
    "a python object": text(f"!!python/object/apply:os.system ['{TOUCH}']"),
    "a python name": text("seed: !!python/name:os.system"),
    "a python module": text("seed: !!python/module:antigravity"),
    "bytes": text("seed: !!binary aGVsbG8="),
    "aliases that multiply": text(BOMB),
    "an alias of itself": text("a: &a [*a]"),
    "a deep pile": text("[" * 5000 + "]" * 5000),
    "a long file": text("name: " + "x" * 2**21),
    "a list": text("- _target_: os.system"),
    "no text": text("a: \x00"),
    "a link as settings": link(".hydra/more.yaml", "precious.txt"),
    "a link to the lock's target": link(".hydra/lock", "precious.txt"),
    "a link as spool": link("metrics.jsonl", "precious.txt"),
    "a link to a device": link("metrics.jsonl", "/dev/zero"),
    "a link as checkpoints": link("checkpoints", "weights"),
    "a link deep down": link("figures/deep/er.png", "precious.txt"),
    "a link as error": link("error.txt", "precious.txt"),
    "a relative link": link("layers.yaml", "../../precious.txt"),
    "a pipe as spool": pipe("metrics.jsonl"),
    "a pipe as checkpoint": pipe("checkpoints/000001-00000000.safetensors"),
    "a database in the folder": value("tracking_uri", "sqlite:///run/evil.db"),
    "a database elsewhere": value("tracking_uri", f"sqlite:///{CANARY}"),
    "a network of a hub": part("model", f"{ZOO}.timm_model", architecture="hf-hub:evil/resnet18"),
    "a network of a folder": part("model", f"{ZOO}.timm_model", architecture="local-dir:evil"),
    "weights of an address": value("pretrained", "http://127.0.0.1:9/x.pt"),
    "weights of a hub": value("pretrained", "hf-hub:evil/x"),
    "a spool of another store": journal({"run": {"tracking_uri": 3, "run_id": []}}),
    "a spool that is no entries": journal([1], "x"),
    "a spool with a broken run": journal({"run": {}}),
    "a spool with broken metrics": journal({"metrics": {"a": "b"}}),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, with what is dear to them beside it and a trap in it."""
    outside = tmp_path / "outside"
    (outside / "weights").mkdir(parents=True)
    (outside / "weights" / "000001-precious.safetensors").write_text("weights of a year")
    (outside / "precious.txt").write_text("first line\nsecond line without an end")
    here = tmp_path / "here"
    here.mkdir()
    trap = f"open({str(outside / CANARY)!r}, 'w')\n"
    for name in ("evil.py", "antigravity.py", "admm_exp_models.py"):
        (here / name).write_text(trap)
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR", "ADMM_EXP_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PYTHONSAFEPATH", "OMP_WAIT_POLICY", "HYDRA_FULL_ERROR", "ADMM_EXP_TRACEBACK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    yield here
    flatten(here / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_run(run: Path, settings: Settings, said: str | None = None) -> None:
    (run / ".hydra").mkdir(parents=True, exist_ok=True)
    if said is None:
        said = json.dumps(settings)
    (run / ".hydra" / "config.yaml").write_text(said)


def flatten(folder: Path) -> None:
    """Take folders "d" out of each other: pytest removes no tree that is deeper than its stack."""
    outer, inner, aside = folder / "d", folder / "d" / "d", folder / "aside"
    while inner.is_dir():
        inner.rename(aside)
        outer.rmdir()
        aside.rename(outer)
