"""More run folders that someone else made: odd files, odd YAML, odd words."""

import json
import os
import socket
from contextlib import chdir
from pathlib import Path
from typing import Any

from support.hostile import (
    CANARY,
    OWN_NET,
    SYSTEM,
    Hostile,
    Settings,
    genuine,
    part,
    pipe,
    text,
    value,
)

DEEPEST = 1200


NOWHERE = "cuda:99"
"""A device that there is not: what does no harm by being read is refused for it, untrained."""


def plain() -> str:
    """Write settings that harm nobody."""
    return json.dumps(genuine() | {"device": NOWHERE})


def hard_link(name: str) -> Hostile:
    """Let a file of the run be another name of what the user owns."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(outside / "precious.txt", path)

    return change


def sparse(name: str) -> Hostile:
    """Let a file claim a terabyte that is not there."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(2**40)

    return change


def folder(name: str) -> Hostile:
    """Put a folder where a file should be."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        (run / name).mkdir(parents=True)

    return change


def deep(settings: Settings, run: Path, outside: Path) -> None:
    """Put folders into each other, deeper than Python calls functions."""
    with chdir(run):
        for _ in range(DEEPEST):
            os.mkdir("d")
            os.chdir("d")


def loop(name: str) -> Hostile:
    """Let a link lead to itself."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(path.name)

    return change


def bound(settings: Settings, run: Path, outside: Path) -> None:
    """Put a socket into the folder."""
    with chdir(run), socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")


def file(name: str, content: str | bytes) -> Hostile:
    """Put a file into the folder."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        said = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(said.replace(CANARY.encode(), str(outside / CANARY).encode()))

    return change


def both(*changes: Hostile) -> Hostile:
    def change(settings: Settings, run: Path, outside: Path) -> None:
        for one in changes:
            one(settings, run, outside)

    return change


def named(key: str, name: str) -> Hostile:
    """Let a setting name a file of the run."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        settings[key] = str(run / name)

    return change


def yaml(addition: str) -> Hostile:
    """Add lines to the settings."""

    def change(settings: Settings, run: Path, outside: Path) -> str:
        return plain()[:-1].replace("\n", "") + f",\n{addition}\n}}"

    return change


def whole(before: str) -> Hostile:
    return lambda settings, run, outside: before + plain()


def download(target: str, **more: Any) -> Hostile:
    return part("dataset", target, root=f"{CANARY}/data", download=True, **more)


class Evil:
    """What a pickle of someone else's holds."""

    def __init__(self, proof: str) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.proof, "w")


def pickled(name: str) -> Hostile:
    def change(settings: Settings, run: Path, outside: Path) -> None:
        import pickle

        (run / name).write_bytes(pickle.dumps({"conv.weight": Evil(str(outside / CANARY))}))
        settings["pretrained"] = str(run / name)

    return change


LOGGING = {
    "version": 1,
    "handlers": {"x": {"class": "logging.FileHandler", "filename": CANARY}},
    "root": {"handlers": ["x"]},
}
FACTORY = {"version": 1, "handlers": {"x": {"()": "os.system", "command": f"touch {CANARY}"}}}
HYDRA = json.dumps({"hydra": {"callbacks": {"x": SYSTEM}, "job_logging": LOGGING}})
ODD_FILES: dict[str, Hostile] = {
    **{f"another name of a file as {n}": hard_link(n) for n in ("metrics.jsonl", ".hydra/lock")},
    "another name of a file deep down": hard_link("figures/a/b.png"),
    **{f"a pipe as {n}": pipe(n) for n in (".hydra/overrides.yaml", "layers.yaml", "report.md")},
    **{f"a folder as {n}": folder(n) for n in ("metrics.jsonl", "layers.yaml", ".hydra/lock")},
    **{f"a link to itself as {n}": loop(n) for n in ("metrics.jsonl", "figures/x.png")},
    "a link to itself as checkpoints": loop("checkpoints"),
    "folders in folders": deep,
    "a socket": bound,
    "a terabyte as journal": sparse("metrics.jsonl"),
    "a terabyte as layers": sparse("layers.yaml"),
    "a terabyte of settings beside the settings": sparse(".hydra/hydra.yaml"),
    "a terabyte of a checkpoint": sparse("checkpoints/000001-00000000.safetensors"),
    "checkpoints that are a file": file("checkpoints", "x"),
    "callbacks in Hydra's own file": file(".hydra/hydra.yaml", HYDRA),
    "overrides that run something": file(".hydra/overrides.yaml", f"- +hydra.callbacks={CANARY}"),
    "Python beside the settings": both(
        file("evil.py", f"open('{CANARY}', 'w')"), part("model", "evil.net")
    ),
    "start-up code of Python": file("sitecustomize.py", f"open('{CANARY}', 'w')"),
    "git that runs something": file(
        ".git/config", f"[core]\n\tfsmonitor = touch {CANARY}\n\tpager = touch {CANARY}\n"
    ),
}
ODD_SETTINGS: dict[str, Hostile] = {
    "logging by a class": value("hydra", {"job_logging": LOGGING}),
    "logging by a factory": value("hydra", {"job_logging": FACTORY}),
    "a pipe as layers file": both(pipe("x.yaml"), named("layers", "x.yaml")),
    "a pipe as weights": both(pipe("x.pt"), named("pretrained", "x.pt")),
    "a device as layers file": value("layers", "/dev/zero"),
    "a device as weights": value("pretrained", "/dev/zero"),
    "a device as previous run": value("from_run", "/dev"),
    "a terabyte as weights": both(sparse("x.safetensors"), named("pretrained", "x.safetensors")),
    "a terabyte as layers file": both(sparse("x.yaml"), named("layers", "x.yaml")),
    "a pickle as weights": pickled("x.pt"),
    "a pickle that is called safe": pickled("x.safetensors"),
    "a download of CIFAR": download("admm_exp.data.cifar.cifar10"),
    "a download of MNIST": download("admm_exp.data.mnist.mnist"),
    "a device as data": part("dataset", "admm_exp.data.folder.imagefolder", root="/dev"),
    "a root that goes round": part(
        "dataset", "admm_exp.data.folder.imagefolder", root="/proc/self"
    ),
    "a name of several lines": value("name", "a\nerror: all is well"),
    "a name that speaks to the terminal": value("experiment_name", "\x1b]0;owned\x07\x1b[2J"),
    "a target of several lines": part("model", "os.system\nerror: all is well"),
    "a target that speaks to the terminal": part("model", "os.\x1b[2Jsystem"),
    "a target to be pasted into a shell": part("model", f"x; touch {CANARY}"),
    "a target with a space": part("model", f" {OWN_NET}"),
    "a target with a sign that nobody sees": part("model", f"{OWN_NET}\u200b"),
    "a target in other letters": part("model", OWN_NET.replace("a", "\u0430", 1)),
    "a target of no length": part("model", ""),
    "a target that is a number": part("model", 3),
    "a target that is nothing": part("model", None),
    "a target that is true": part("model", True),
    "a part without a name": value("model", {"_target_": OWN_NET}),
    "a model that is a text": value("model", OWN_NET),
    "a model that is nothing": value("model", None),
    "a schedule that is a list": value("schedule", [1]),
    "an address to be pasted into a shell": value("tracking_uri", f"http://x/; touch {CANARY}"),
    "an address of several lines": value("tracking_uri", "http://127.0.0.1:9/\nerror: fine"),
    "an address that speaks to the terminal": value("tracking_uri", "http://x/\x1b[2J"),
    "a file as address": value("tracking_uri", f"file://{CANARY}"),
    "a plug-in as address": value("tracking_uri", "evil://x/y"),
    "a database with a query": value("tracking_uri", f"sqlite:///{CANARY}?vfs=x&mode=rwc"),
    "a driver as address": value("tracking_uri", "mysql+evil://u:p@127.0.0.1/x"),
    "a database in memory": value("tracking_uri", "sqlite://"),
    "an infinite rho": value("rho", float("inf")),
    "a rho that is no number": value("rho", float("nan")),
    "a seed of a thousand digits": value("seed", 10**1000),
    "processes without number": value("trainer.devices", 10**9),
    "a device that is a path": value("device", "/dev/zero"),
    "a device of another kind": value("device", "xpu:0"),
    "workers without number": value("dataset.workers", 10**9),
    "a patience that is no number": value("trainer.patience_seconds", float("nan")),
}
ODD_YAML: dict[str, Hostile] = {
    "a key twice": yaml('"seed": 1, "seed": {"_target_": "os.system"}'),
    "a merge": yaml('"<<": {"_target_": "os.system"}'),
    "a key that is a list": yaml("? [a, b]\n: 1"),
    "a key that is nothing": yaml("null: 1"),
    "a key that is a number": yaml("3: {_target_: os.system}"),
    "a key that is true": yaml("true: {_target_: os.system}"),
    "a date": yaml('"layers": 2020-01-01'),
    "a set": yaml('"x": !!set {a, b}'),
    "an ordered mapping": yaml('"x": !!omap [a: 1]'),
    "a tag of one's own": yaml('"x": !evil {a: 1}'),
    "a tag without a name": yaml('"x": ! os.system'),
    "a number of base 60": yaml('"seed": 1:30:00'),
    "a number of five thousand digits": yaml('"seed": ' + "9" * 5000),
    "two documents": whole("a: 1\n---\n"),
    "a directive": whole("%TAG ! tag:yaml.org,2002:python/\n---\n"),
    "another version of YAML": whole("%YAML 9.9\n---\n"),
    "UTF-16": lambda *_: plain().encode("utf-16").decode("latin-1"),
    "an end in the middle": lambda *_: plain()[:-200],
    "only a comment": text("# nothing"),
    "a number alone": text("3"),
    "tabs": text("model:\n\t_target_: os.system"),
    "an escape to the terminal": text('name: "\\e[2J"\nmodel: {_target_: "os\\e[2J.x"}'),
}
MORE_HOSTILE = ODD_FILES | ODD_SETTINGS | ODD_YAML
