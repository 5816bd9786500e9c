"""The grid of `-m`, told as one story; Hydra finds sweepers under `hydra_plugins` alone."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

__all__ = ["TrackedSweeper"]


class TrackedSweeper(BasicSweeper):
    """Hydra's basic sweeper with a parent run, reuse of finished jobs and a table at the end."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that the overrides of a command line span.

        Args:
            arguments: the overrides.
        """
        from admm_exp.app.sweep import Planned, run_sweep

        assert self.config is not None
        parser = OverridesParser.create(config_loader=self._loader())
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        swept = {o.get_key_element() for o in overrides if o.is_sweep_override()}
        (jobs,) = self.split_arguments(overrides, None)
        planned = [Planned(_name(job, swept), job, self._composed(job)) for job in jobs]
        grid = " ".join(o.input_line or "" for o in overrides if o.is_sweep_override())
        run_sweep(planned, grid, self.config, self._launch)

    def _composed(self, job: Sequence[str]) -> DictConfig:
        config: DictConfig = self._loader().load_sweep_config(self.config, list(job))
        return config

    def _launch(self, jobs: Sequence[Sequence[str]]) -> list[JobReturn]:
        assert self.launcher is not None
        returns: list[JobReturn] = []
        for batch in self.split_overrides_to_chunks(list(map(list, jobs)), self.max_batch_size):
            returns += self.launcher.launch(batch, initial_job_idx=len(returns))
        return returns

    def _loader(self) -> Any:
        assert self.hydra_context is not None
        return self.hydra_context.config_loader


def _name(job: Sequence[str], swept: set[str]) -> str:
    return ",".join(s.lstrip("+") for s in job if s.partition("=")[0] in swept)
