"""Jobs of a sweep are composed as Hydra composes them, only faster."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from admm_exp.app.composing import SweepLoader
from admm_exp.app.main import conf_dir
from admm_exp.config.settings import ExperimentConfig

OWN = "notebooks/own_parts/conf"


@pytest.fixture
def search_path() -> Iterator[object]:
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader().get_search_path()


def composed(search_path, loader_class, jobs, *given: str) -> list[DictConfig]:
    """Compose jobs with one loader."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    master = ConfigLoaderImpl(search_path).load_configuration(
        "config", list(given), RunMode.MULTIRUN
    )
    loader = loader_class(search_path)
    return [loader.load_sweep_config(master, job) for job in jobs]


@pytest.mark.parametrize(
    ("jobs", "given"),
    [
        ([["rho=0.1", "seed=1"], ["seed=2", "rho=auto"]], ()),
        ([["schedule=paper", "schedule.dense.epochs=2"], ["schedule.dense.epochs=2"]], ()),
        ([["schedule.dense.epochs=2", "schedule=paper"]], ("hydra.job.chdir=true",)),
        ([["+model.extra={a: 1}", "++seed=3"], ["~model.width", "model._target_=own.net"]], ()),
        ([["model={name: own, _target_: own.net}"], ["sparsity=0.3"]], ()),
        ([["+experiment=fashion_lenet5", "sparsity=0.3"], ["layers='a b'", "sparsity=0.4"]], ()),
        ([["dataset=cells", "metric=max_norm"]], (f"hydra.searchpath=[{OWN}]",)),
        ([["+experiment=cells", "rho=1"]], (f"hydra.searchpath=[file://{Path.cwd() / OWN}]",)),
        ([["hydra.job.name=a", "rho=1"]], ()),
    ],
)
def test_a_job_is_what_hydra_composes(search_path, jobs, given) -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    expected = composed(search_path, ConfigLoaderImpl, jobs, *given)
    found = composed(search_path, SweepLoader, jobs, *given)
    for ours, theirs in zip(found, expected, strict=True):
        assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)
        assert OmegaConf.is_struct(ours) == OmegaConf.is_struct(theirs)


def test_a_job_does_not_see_the_values_of_another(search_path) -> None:
    first, second = composed(search_path, SweepLoader, [["sparsity=0.3"], ["rho=0.1"]])
    assert (first.sparsity, second.sparsity, second.rho) == (0.3, 0.5, 0.1)


@pytest.mark.parametrize("word", ["sparsty=0.3", "sched=quick", "schedule=nosuch", "~nosuch"])
def test_what_hydra_refuses_is_refused(search_path, word: str) -> None:
    with pytest.raises(ConfigCompositionException, match=word.strip("~").partition("=")[0]):
        composed(search_path, SweepLoader, [[word]])


def test_values_of_a_thousand_jobs_read_the_files_once(search_path, monkeypatch) -> None:
    from hydra._internal import config_loader_impl

    made = []
    whole = config_loader_impl.create_defaults_list
    monkeypatch.setattr(
        config_loader_impl,
        "create_defaults_list",
        lambda *args, **kwargs: [made.append(1), whole(*args, **kwargs)][1],
    )
    jobs = [[f"sparsity=0.{n}", f"schedule={s}"] for s in ("quick", "paper") for n in range(9)]
    composed(search_path, SweepLoader, jobs)
    assert len(made) == 1 + 2  # the sweep, and one for each schedule


def test_a_loader_goes_to_another_process_without_what_it_keeps(search_path) -> None:
    loader = SweepLoader(search_path)
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    loader.load_sweep_config(master, ["rho=1"])
    again = pickle.loads(pickle.dumps(loader))
    assert not again._bases
    assert again.load_sweep_config(master, ["rho=2"]).rho == 2
