"""What the pages beside README tell a user to type composes, and their examples run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from admm_exp.app.main import conf_dir
from admm_exp.config.check import check_config
from admm_exp.config.settings import ExperimentConfig

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PAGES = ("OPERATIONS.md", "RESULTS.md")
OTHERS = ("admm-exp-sync", "admm-exp-search")


def blocks(path: Path, language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL))


COMMANDS = [
    line
    for page in PAGES
    for line in [
        *blocks(NOTEBOOKS / page, "sh").splitlines(),
        *re.findall(r"`(admm-exp\s-m\s[^`]*)`", (NOTEBOOKS / page).read_text()),
    ]
    if line
]


def first_of(word: str) -> str:
    """Take the first value of a swept setting."""
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override() or override.is_interval_sweep():
        return word
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_composes(line: str) -> None:
    command, *words = shlex.split(line)
    assert command == "admm-exp" or command in OTHERS
    is_search = command == "admm-exp-search"
    words = ["hydra/sweeper=search", *words] if is_search else words
    ranges = [word for word in words if "interval(" in word]
    overrides = [first_of(word) for word in words if word != "-m" and word not in ranges]
    if command == "admm-exp-sync":
        assert words == []
        return
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config", overrides, return_hydra_config=True)
        settings: Any = OmegaConf.to_container(compose("config", overrides), enum_to_str=True)
    assert composed.hydra.sweeper["_target_"].startswith("hydra_plugins.admm_exp.sweeper.")
    settings |= {"dataset": dict(settings["dataset"]) | {"batch_size": 8, "seed": 0}}
    settings["tracking_uri"] = "sqlite:///x.db"
    preset = "fashion_mnist" if "+experiment=fashion_" in line else "digits"
    asked = re.findall(r"\bdataset=(\w+)", line) or [preset]
    assert check_config(settings).dataset["name"] == asked[0]


@pytest.fixture(scope="module")
def own() -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(blocks(NOTEBOOKS / "own_parts" / "README.md", "python"), scope)
    return scope


@pytest.mark.parametrize("name", ["in_memory", "plain_loaders"])
def test_the_data_sets_of_own_parts_train_its_network(own: dict[str, Any], name: str) -> None:
    torch.manual_seed(0)
    dataset = own[name](batch_size=8, seed=0)
    model = own["net"](num_classes=dataset.num_classes, in_channels=dataset.shape[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = model[0].weight.clone()
    assert own["train"](model, optimizer, 0, dataset.train) > 0
    assert not torch.equal(model[0].weight, before)
    assert 0.0 <= own["validate"](model, dataset.val) <= 1.0


def test_the_metric_of_own_parts_scores_units(own: dict[str, Any]) -> None:
    theta = torch.tensor([[1.0, -3.0], [2.0, 0.0]])
    assert own["largest"](theta, None).tolist() == [3.0, 2.0]


REPOSITORY = NOTEBOOKS.parent
COMPARING_PAGES = ("README.md", "notebooks/RESULTS.md")


def tables(page: str) -> list[tuple[str, list[list[str]]]]:
    """Find the tables that compare methods: what stands above each, and its rows of cells."""
    above, found, rows = "", [], []
    for line in [*(REPOSITORY / page).read_text().splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if rows and any("minus" in cell for cell in rows[0]):
            found.append((above, rows))
        above, rows = (above if not rows else "") + line + "\n", []
    return found


COMPARING = [(page, *table) for page in COMPARING_PAGES for table in tables(page)]


@pytest.mark.parametrize(
    ("above", "table"),
    [each[1:] for each in COMPARING],
    ids=[f"{page} {number}" for number, (page, *_) in enumerate(COMPARING)],
)
def test_all_that_a_table_compares_has_one_number_of_seeds(
    above: str, table: list[list[str]]
) -> None:
    header, _, *rows = table
    if "n" in header:
        seeds = {row[header.index("n")] for row in rows}
        assert len(seeds) == 1
        assert int(seeds.pop()) >= 3
    else:
        assert int(re.findall(r"\bn = (\d+)", above)[-1]) >= 3  # one for all of it


@pytest.mark.parametrize("page", COMPARING_PAGES)
def test_every_difference_has_its_standard_error(page: str) -> None:
    cells = [cell for _, (_, _, *rows) in tables(page) for row in rows for cell in row]
    differences = [cell for cell in cells if re.match(r"[+-]\d", cell)]
    assert differences
    assert all(re.fullmatch(r"[+-]\d+\.\d+ \+- \d+\.\d+", cell) for cell in differences)
