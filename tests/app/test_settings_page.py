"""What every setting means stands in one place, in --help and on a page that is true."""

from pathlib import Path

import pytest
import yaml
from conftest import run_command

from admm_exp.app.help_text import beside, comments_of, search_help, with_meanings
from admm_exp.app.main import conf_dir
from admm_exp.app.settings_page import settings_page
from admm_exp.config.keys import known_keys
from admm_exp.config.meanings import MEANINGS, meaning_of
from admm_exp.config.settings import PlanConfig

PAGE = Path(__file__).parents[2] / "notebooks" / "SETTINGS.md"
PARTS = [
    path
    for path in sorted(conf_dir().glob("*/*.yaml"))
    if path.parent.name not in ("schedule", "experiment", "hydra")
]


def test_the_page_is_what_the_schema_and_conf_say() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == settings_page(), "run python -m admm_exp.app.settings_page " + str(PAGE)


@pytest.mark.parametrize("key", known_keys(PlanConfig))
def test_every_setting_has_a_meaning(key: str) -> None:
    assert MEANINGS[key]
    assert "\n" not in MEANINGS[key]


@pytest.mark.parametrize("path", PARTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_setting_of_a_part_has_a_meaning(path: Path) -> None:
    group = path.parent.name
    comments = comments_of(path, group)
    settings = [
        key for key in yaml.safe_load(path.read_text()) if key not in ("_target_", "defaults")
    ]
    assert [key for key in settings if not meaning_of(f"{group}.{key}", comments)] == []


def test_a_meaning_stands_behind_its_setting() -> None:
    text = (
        "before\n== Settings ==\nbudget:\n  macs: null\nmetric:\n  name: taylor\n  batches: 16\nend"
    )
    lines = with_meanings(text, conf_dir()).splitlines()
    before, end = lines[0], lines[-1]
    (macs,) = [line for line in lines if line.startswith("  macs:")]
    words = " ".join("\n".join(lines).replace("#", " ").split())
    assert (before, end) == ("before", "end")
    assert macs.startswith(f"{'  macs: null':<32}# fraction of the dense network's MACs")
    assert f"macs: null {MEANINGS['budget.macs']}" in words
    assert "batches: 16 training batches that gradients are averaged over" in words


def test_text_without_settings_stays_as_it_is() -> None:
    assert with_meanings("a: b\n", conf_dir()) == "a: b\n"


def test_help_shows_the_values_of_what_is_composed_with_their_meaning(tmp_path: Path) -> None:
    done = run_command(tmp_path, "sparsity=0.3", "--help")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("sparsity:")]
    assert line == f"{'sparsity: 0.3':<32}# {MEANINGS['sparsity']}"
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def test_a_long_meaning_is_folded_below_its_setting() -> None:
    lines = beside("  stopping: budget", "word " * 20).splitlines()
    assert lines[0].startswith(f"{'  stopping: budget':<32}# word word")
    assert all(line.startswith(" " * 32 + "# word") for line in lines[1:])
    assert max(map(len, lines)) <= 80
    assert beside("x" * 40, "word").splitlines() == ["x" * 40, " " * 32 + "# word"]


@pytest.mark.parametrize("name", ["plan", "report", "ui", "sync"])
def test_examples_of_every_command_fit_a_terminal(name: str) -> None:
    help_lines = (conf_dir() / f"{name}.yaml").read_text().partition("  help:")[2].splitlines()
    assert max(len(line.removeprefix("      ")) for line in help_lines) <= 80


def test_the_help_of_the_search_names_its_own_settings() -> None:
    text = search_help(conf_dir())
    for word in ("trials: 20", "interval(low,high)", "sampler: TPE", "objectives", "storage"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80
