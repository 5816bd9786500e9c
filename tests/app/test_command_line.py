"""Command lines as people type them: understood, or answered with the sentence that helps."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_command
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from admm_exp.app.command_line import forget_empty_address, options_first, quoted, require_single
from admm_exp.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "read"),
    {
        "a=1 -m b=2": "-m a=1 b=2",
        "a=1 b=2 --multirun": "--multirun a=1 b=2",
        "a=1 --cfg job b=2": "--cfg job a=1 b=2",
        "a=1 --cfg=job b=2": "--cfg=job a=1 b=2",
        "a=1 -cn other b=2": "-cn other a=1 b=2",
        "a=1 --config-dir parts b=2 -m": "--config-dir parts -m a=1 b=2",
        "a=1 --info b=2": "--info a=1 b=2",
        "a=1 --info defaults b=2": "--info defaults a=1 b=2",
        "a=1 --multi b=2": "--multi a=1 b=2",
        "~a b=-1": "~a b=-1",
        "": "",
    }.items(),
)
def test_options_may_stand_anywhere(typed: str, read: str) -> None:
    assert options_first(typed.split()) == read.split()


@pytest.mark.parametrize(
    ("option", "hint"), {"--mutlirun": "did you mean --multirun?", "-zzz": "--hydra-help"}.items()
)
def test_an_unknown_option_is_named(option: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown option {option}; .*{hint}".replace("?", r"\?")):
        options_first(["a=1", option])


@pytest.mark.parametrize("word", ["-m", "--multirun"])
def test_a_command_that_runs_once_refuses_to_sweep(word: str) -> None:
    require_single(["experiment_name=-m"])
    with pytest.raises(ConfigError, match=f"leave {word} out"):
        require_single(["a=1", word])


@pytest.mark.parametrize("value", ["", " ", "\t"])
def test_an_empty_address_counts_as_unset(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", value)
    forget_empty_address()
    assert "MLFLOW_TRACKING_URI" not in os.environ
    forget_empty_address()


@pytest.mark.parametrize("value", ["it's", "/x/my net (1).pt", 'say "so"', "a\\b", "{a", "a, b: c"])
def test_what_needs_quotes_is_shown_with_them(value: str) -> None:
    written = quoted(f"name={value}")
    assert written is not None
    (word,) = shlex.split(written)
    assert OverridesParser.create().parse_override(word).value() == value


@given(st.text(max_size=12))
def test_a_shown_override_always_means_the_text(value: str) -> None:
    written = quoted(f"name={value}")
    if written is not None:
        (word,) = shlex.split(written)
        assert str(OverridesParser.create().parse_override(word).value()) == value


@pytest.mark.parametrize("override", ["name", "=x", "a b=x", ""])
def test_what_is_no_setting_is_not_quoted(override: str) -> None:
    assert quoted(override) is None


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]])
def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "admm_exp", *words]
    done = subprocess.run(
        command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    {
        ("-m", "rho=interval(0.01,0.1)"): "search it with admm-exp-search",
        ("-m", "metric=glob(nothing*)"): "metric=glob(nothing*) matches no option",
        ("name=it's",): "a text with such signs stands in quotes: 'name=",
        ("pretrained=/x/my net (1).pt",): """in quotes: 'pretrained="/x/my net (1).pt"'""",
        ("--config-dir", "parts", "metric=mine"): "metric.name is missing: write `name: NAME`",
        ("--config-dir", "parts", "metric=cut"): "is no valid YAML (line 2:",
        ("--config-dir", "nowhere"): "nowhere' not found: give --config-dir a folder",
        ("seed=1", "--nonsense"): "unknown option --nonsense",
        ("seed=1", "-m", "sparsity=2,3"): "sparsity must be in [0, 1), got 2",
    }.items(),
)
def test_a_wrong_line_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    metric = tmp_path / "parts" / "metric"
    metric.mkdir(parents=True)
    (metric / "mine.yaml").write_text("_target_: admm_exp.admm.metrics.L1Norm\n")
    (metric / "cut.yaml").write_text("a: [\n")
    done = run_command(tmp_path, *words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"parts"}


def test_tab_completes_the_options_of_a_group() -> None:
    environment = os.environ | {"COMP_LINE": "admm-exp dataset=fas"}
    command = [sys.executable, "-W", "ignore", "-m", "admm_exp", "-sc", "query=bash"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["dataset=fashion_mnist"], done.stderr


@pytest.mark.skipif(os.name == "nt", reason="descriptors of POSIX")
@pytest.mark.parametrize("closed", ["1", "2", "0, 1, 2"])
def test_output_that_the_shell_closed_goes_nowhere(tmp_path, closed):
    code = f"""
import os, sys
for number in ({closed},):
    os.close(number)
sys.stdout = None if 1 in ({closed},) else sys.stdout
sys.stderr = None if 2 in ({closed},) else sys.stderr
from admm_exp.app.command_line import pipe_may_close
with pipe_may_close():
    file = open("data", "w")
    assert file.fileno() > 2
    print("out")
    print("err", file=sys.stderr)
    os.write(1, b"raw")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data").read_text() == ""
