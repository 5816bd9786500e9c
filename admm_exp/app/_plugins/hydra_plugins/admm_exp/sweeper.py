"""Grids and searches under one parent run; Hydra finds sweepers in `hydra_plugins` alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from admm_exp.app.parent_run import JobSpec

__all__ = ["SearchSweeper", "TrackedSweeper"]


class TrackedSweeper(BasicSweeper):
    """Hydra's basic sweeper with a parent run, reuse of finished jobs and a table at the end."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives every sweeper, and compose jobs faster than its loader does."""
        from admm_exp.app.composing import SweepLoader

        loader = SweepLoader(hydra_context.config_loader.get_search_path())
        context = HydraContext(config_loader=loader, callbacks=hydra_context.callbacks)
        super().setup(hydra_context=context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that the overrides of a command line span.

        Args:
            arguments: The overrides.
        """
        from admm_exp.app.grid import distinct, require_values, run_sweep

        overrides = self._parsed(arguments)
        require_values(overrides)
        swept = {o.get_key_element() for o in overrides if o.is_sweep_override()}
        (jobs,) = self.split_arguments(overrides, None)
        named = swept | {"rho", "sparsity"}  # the two axes name a job even with one value
        specs = distinct([self.spec_of(job, named) for job in jobs])
        grid = " ".join(o.input_line or "" for o in overrides if o.is_sweep_override())
        run_sweep(specs, grid, self.master, self.launch)

    def spec_of(self, job: Sequence[str], swept: set[str]) -> "JobSpec":
        """Compose and check a job.

        Args:
            job: Its overrides.
            swept: Keys that name it.
        """
        from admm_exp.app.parent_run import JobSpec, checked

        name = ",".join(s.lstrip("+") for s in job if s.partition("=")[0] in swept)
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        return JobSpec(name, job, checked(loader.load_sweep_config(self.master, list(job)), job))

    def launch(self, jobs: Sequence[Sequence[str]], first_number: int) -> list[JobReturn]:
        """Have jobs run by the launcher, `max_batch_size` at a time.

        Args:
            jobs: Their overrides.
            first_number: Number of the first job.
        """
        assert self.launcher is not None
        returns: list[JobReturn] = []
        for batch in self.split_overrides_to_chunks(list(map(list, jobs)), self.max_batch_size):
            number = first_number + len(returns)
            returns += self.launcher.launch(batch, initial_job_idx=number)
        return returns

    @property
    def master(self) -> DictConfig:
        """Return the configuration of the whole sweep."""
        assert self.config is not None
        return self.config

    def _parsed(self, arguments: Sequence[str]) -> list[Override]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides([*self._parse_config(), *arguments])


class SearchSweeper(TrackedSweeper):
    """Choose the jobs with Optuna, from what earlier ones reached.

    Args:
        params: Ranges in Hydra's words, `interval(0.1, 1)`, `choice(a, b)`, `range(2, 8)`.
        objectives: `accuracy` (validation, up), `macs` (down), or both.
        trials: Number of jobs of the study, earlier starts counted in.
        batch: Jobs that are chosen and run at once.
        storage: Optuna's database.
        study_name: Of the study to go on with; None names it by what is searched.
        stops_hopeless: Ends trials whose ADMM diagnostics are hopeless.
    """

    def __init__(self, params: Mapping[str, str], **settings: Any) -> None:
        super().__init__(None, dict(params))
        self._settings = settings

    def sweep(self, arguments: list[str]) -> Any:
        """Search the ranges of the configuration and of a command line.

        Args:
            arguments: The overrides; one of a key replaces its range.
        """
        from admm_exp.app.search import run_search
        from admm_exp.sweep.study import SearchSettings

        by_key = {o.get_key_element(): o for o in self._parsed(arguments)}
        swept = {key for key, o in by_key.items() if o.is_sweep_override()}
        fixed = [o.input_line or "" for key, o in by_key.items() if key not in swept]
        title = "search " + " ".join(by_key[key].input_line or "" for key in sorted(swept))
        ranges = {key: by_key[key].value() for key in sorted(swept)}
        settings = SearchSettings(**self._settings)

        def spec_of(values: Mapping[str, Any]) -> "JobSpec":
            chosen = [f"{key}={value}" for key, value in values.items()]
            return self.spec_of([*fixed, *chosen], swept)

        run_search(title, ranges, settings, spec_of=spec_of, master=self.master, launch=self.launch)
