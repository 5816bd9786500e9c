"""Whatever a user types or a file holds: one sentence, no traceback, no file outside outputs/."""

import json
import math
import os
import signal
import traceback
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hypothesis import strategies as st
from omegaconf import OmegaConf
from support.fuzz import MUTATIONS, damaged, times, tried
from support.odd_images import image_files, with_checksums
from support.runs import finished_report
from support.toy import batches, mlp

from admm_exp.admm.metrics import L2Norm
from admm_exp.app.build import build_components
from admm_exp.app.main import conf_dir
from admm_exp.app.wording import explain
from admm_exp.config.check import check_config
from admm_exp.config.keys import known_keys
from admm_exp.config.settings import ExperimentConfig
from admm_exp.data.decoding import decode_rgb
from admm_exp.errors import CheckpointError, ConfigError, DataError, TrackingError
from admm_exp.export.saved_model import load, save_model
from admm_exp.phases.checkpoints import Checkpoints
from admm_exp.phases.observers import Observers
from admm_exp.phases.progress import LivePhase
from admm_exp.phases.snapshot import SUFFIX, read_newest
from admm_exp.pruning.budget.layers_file import read_layers
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.report.row import result_row
from admm_exp.report.run import read_report
from admm_exp.results import STRUCTURE, WEIGHTS, EpochRecord
from admm_exp.sweep.job import Job, read_job, write_job
from admm_exp.tracking.journal import metrics_entry, metrics_of, origin_entry, read_entries

NAMES = sorted(path.stem for path in conf_dir().rglob("*.yaml"))
GROUPS = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
WORDS = ["null", "true", "-1", "0", "1", "2", "0.5", "1e-3", "1e999", "nan", ".inf", "auto", "[]"]
WORDS += ["{}", "[1,2]", "{a: 1}", "''", "${seed}", "${nowhere}", "${oc.env:NO}", "1,2", "0x1F"]
VALUES = st.sampled_from([*WORDS, *NAMES]) | st.text(max_size=8)
KEYS = st.sampled_from([*known_keys(), *GROUPS, "rho_policy.factor", "model.width", "hydra.job"])
SIGNS = st.sampled_from(["", "", "", "", "+", "++", "~"])
OVERRIDE = st.tuples(
    SIGNS, KEYS | st.text(max_size=6), st.sampled_from(["=", "=", "=", ""]), VALUES
)
OVERRIDES = st.lists(OVERRIDE.map("".join), min_size=1, max_size=3)

LAYER_VALUES = st.sampled_from([*WORDS, "2020-99-99", "!!int x", "!!map x", "&a [*a]", "0o9", "~"])
LAYER_LINE = st.tuples(
    st.sampled_from(["sparsity", "exclude", "  default", "  0", "  '*'", "- Linear", "? [a]"]),
    st.sampled_from([": ", ":", ""]),
    LAYER_VALUES | st.text(max_size=5),
)
LAYERS = st.lists(LAYER_LINE.map("".join), max_size=6).map("\n".join) | st.text(max_size=40)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@times(400)
def test_overrides(work: Path, n: int) -> None:
    def check(overrides: list[str]) -> None:
        try:
            composed = compose("config", overrides=overrides)
            plain: Any = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
            build_components(check_config(plain, overrides))
        except Exception as error:
            text = explain(error)
            assert text.startswith("error: "), (overrides, text)
            assert len(text.splitlines()) == 1, (overrides, text)
        assert set(os.listdir(work)) <= {"outputs"}, overrides

    GlobalHydra.instance().clear()
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tried(n, check, OVERRIDES)


@times(400)
def test_layers_files(tmp_path: Path, n: int) -> None:
    path = tmp_path / "layers.yaml"

    def check(text: str) -> None:
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with suppress(ConfigError):
            layers = read_layers(path, 0.5)
            ConstrainedModel(
                mlp(),
                batches()[0][0],
                sparsity=layers.default,
                by_layer=layers.by_layer,
                exclude=layers.exclude,
                metric=L2Norm(),
                rho=1.0,
            )
            assert all(0.0 <= s < 1.0 for s in (layers.default, *layers.by_layer.values())), text

    tried(n, check, LAYERS)


@times(400)
def test_checkpoints(tmp_path: Path, n: int) -> None:
    checkpoints, model, optimizer = progress(tmp_path, None)
    checkpoints.phase_started("dense", 2)
    checkpoints.begin(LivePhase("dense", model, optimizer))
    checkpoints.epoch_finished(EpochRecord("dense", 1, 0.1, 1.0, 0.5, 1.0, 0.1))
    checkpoints.wait()  # it is written beside
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    whole = path.read_bytes()

    def check(mutations: list[tuple[float, bytes]]) -> None:
        content = bytearray(whole)
        for place, new in mutations:  # an empty one cuts the file off
            start = int(place * len(content))
            content[start : start + len(new) if new else None] = new
        for old in tmp_path.glob(f"*{SUFFIX}"):
            old.unlink()
        # under the right checksum, so that only the content speaks
        (tmp_path / f"000001-{zlib.crc32(content):08x}{SUFFIX}").write_bytes(content)
        found = read_newest(tmp_path)
        if found is None:
            return
        checkpoints, model, optimizer = progress(tmp_path, found)
        checkpoints.phase_started("dense", 2)
        with suppress(CheckpointError):
            checkpoints.begin(LivePhase("dense", model, optimizer))

    tried(n, check, MUTATIONS)


def progress(folder: Path, found: Any) -> tuple[Checkpoints, torch.nn.Module, torch.optim.SGD]:
    """Make what a run begins with."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(batches()[0][0]).sum().backward()
    optimizer.step()
    return Checkpoints(folder, {"settings": "x"}, Observers(()), found), model, optimizer


def in_a_child(check: Callable[[], None]) -> int:
    """Run a check in a process of its own, which may die, and return its exit code."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(3000)  # a file that is decoded for ever is a failure
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@times(2000)
def test_images_are_read_or_refused_and_the_process_lives(tmp_path: Path, n: int) -> None:
    path, files = tmp_path / "image", image_files()

    def check(number: int, mutations: list[tuple[float, bytes]], is_mended: bool) -> None:
        content = damaged(files[number], mutations)
        is_png = is_mended and content.startswith(b"\x89PNG")
        path.write_bytes(with_checksums(content) if is_png else content)
        with suppress(DataError):
            image = decode_rgb(path)
            assert (image.dtype, image.shape[0]) == (torch.uint8, 3)

    numbers = st.integers(0, len(files) - 1)
    cases = st.tuples(numbers, MUTATIONS, st.booleans())
    assert in_a_child(lambda: tried(n, lambda case: check(*case), cases)) == 0


@times(2000)
def test_reports_are_read_or_named(tmp_path: Path, n: int) -> None:
    whole = json.dumps(finished_report()).encode()

    def check(mutations: list[tuple[float, bytes]]) -> None:
        (tmp_path / "report.json").write_bytes(damaged(whole, mutations))
        with suppress(CheckpointError):
            row = result_row(read_report(tmp_path), "a name", "a folder")
            assert (row["run_name"], row["run_dir"]) == ("a name", "a folder")

    tried(n, check, MUTATIONS)


@times(2000)
def test_job_files_are_read_or_named(tmp_path: Path, n: int) -> None:
    path = tmp_path / "0.json"
    write_job(path, Job("rho=1", "abc", "parent", status="running", limits=(0.5,), warnings=("a",)))
    whole = path.read_bytes()

    def check(mutations: list[tuple[float, bytes]]) -> None:
        path.write_bytes(damaged(whole, mutations))
        with suppress(CheckpointError):
            job = read_job(path)
            write_job(path, job)
            assert read_job(path) == job

    tried(n, check, MUTATIONS)


@times(400)
def test_a_networks_files_are_loaded_whole_or_refused(tmp_path: Path, n: int) -> None:
    model, example = mlp(), batches()[0][0]
    save_model(model, model, {"_target_": "own.mlp"}, example, tmp_path)
    files = [STRUCTURE, WEIGHTS]
    whole = {name: (tmp_path / name).read_bytes() for name in files}
    weights = [tensor.clone() for tensor in model.state_dict().values()]

    def check(case: tuple[str, list[tuple[float, bytes]]]) -> None:
        name, mutations = case
        (tmp_path / name).write_bytes(damaged(whole[name], mutations))
        with suppress(CheckpointError):
            loaded = load(tmp_path, model).state_dict().values()
            assert all(map(torch.equal, loaded, weights))
        (tmp_path / name).write_bytes(whole[name])

    tried(n, check, st.tuples(st.sampled_from(files), MUTATIONS))


@times(400)
def test_journals_are_read_or_named(tmp_path: Path, n: int) -> None:
    path = tmp_path / "metrics.jsonl"
    entries = [origin_entry("sqlite:///x.db", "abc"), metrics_entry(1, 2, {"loss": math.inf})]
    whole = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)

    def check(mutations: list[tuple[float, bytes]]) -> None:
        path.write_bytes(damaged(whole, mutations))
        with suppress(TrackingError):
            points = metrics_of(read_entries(path))
            assert all(isinstance(value, float) and step >= 0 for _, value, _, step in points)

    tried(n, check, MUTATIONS)
