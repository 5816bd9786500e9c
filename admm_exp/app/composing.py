"""Composing the jobs of a sweep: the files once for all jobs, the values of each on a copy."""

import copy
import os
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

BASES = 32
"""Compositions that are kept: one for each choice of the groups that a sweep goes through."""


class SweepLoader(ConfigLoaderImpl):
    """Hydra's loader, which reads the files anew only for another choice of groups.

    Reading and merging the files of a job takes twenty times as long as copying what they give, and
    a sweep composes each job twice: to check it before anything runs, and to run it.

    Args:
        config_search_path: Where the files lie.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._bases: dict[tuple[str, ...], DictConfig] = {}
        self._files: dict[tuple[str, ...], IConfigRepository] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a process that takes a job over can compose again."""
        return vars(self) | {"_bases": {}, "_files": {}}

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Compose a job.

        Args:
            master_config: Configuration of the sweep.
            sweep_overrides: Those of the job.
        """
        try:
            config = self._on_a_copy(master_config, sweep_overrides)
        except Exception:  # Hydra says what is wrong
            config = None
        return config or super().load_sweep_config(master_config, sweep_overrides)

    def _on_a_copy(self, master: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig | None:
        """Compose a job from a kept composition; None if its words are not of the usual kind."""
        overrides = OverridesParser.create().parse_overrides(list(sweep_overrides))
        if any(o.is_hydra_override() or o.is_sweep_override() for o in overrides):
            return None
        files = self._files_of(master)
        values = [o for o in overrides if not _chooses_a_file(o, files)]
        choices = [str(o.input_line) for o in overrides if o not in values]
        config = copy.deepcopy(self._base(master, choices))
        self._apply_overrides_to_config(values, config)
        hydra = config.hydra
        hydra.overrides.task = [o.input_line for o in overrides]
        wording = hydra.job.config.override_dirname
        hydra.job.override_dirname = get_overrides_dirname(
            overrides,
            kv_sep=wording.kv_sep,
            item_sep=wording.item_sep,
            exclude_keys=wording.exclude_keys,
        )
        OmegaConf.copy_cache(from_config=master, to_config=config)
        return config

    def _base(self, master: DictConfig, choices: list[str]) -> DictConfig:
        key = (*_of_sweep(master), "", *choices)
        if key not in self._bases:
            while len(self._bases) >= BASES:
                del self._bases[next(iter(self._bases))]
            self._bases[key] = super().load_sweep_config(master, choices)
        return self._bases[key]

    def _files_of(self, master: DictConfig) -> IConfigRepository:
        """Find the files of a sweep, those of its `hydra.searchpath` among them."""
        key = name, _, *given = _of_sweep(master)
        if key not in self._files:
            _, self._files[key] = self._parse_overrides_and_create_caching_repo(name, given)
        return self._files[key]


def _of_sweep(master: DictConfig) -> tuple[str, ...]:
    """Name what all jobs of a sweep share."""
    return (str(master.hydra.job.config_name), os.getcwd(), *master.hydra.overrides.hydra)


def _chooses_a_file(override: Override, files: IConfigRepository) -> bool:
    is_mapping = isinstance(override.value(), dict)
    return not is_mapping and files.group_exists(override.key_or_group)
