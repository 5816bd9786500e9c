"""Jobs of a sweep on a Ray cluster, a task each; Ray starts a task again whose worker dies."""

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from admm_exp.errors import ConfigError

__all__ = ["RayLauncher"]

CONTACT_SECONDS = 5.0
AMOUNTS = {"num_cpus": "CPU", "num_gpus": "GPU"}


class RayLauncher(Launcher):
    """Hand the jobs to Ray and wait until all are over.

    Args:
        ray: `init`, what ray.init takes, and `remote`, what a job needs.
        waits_for_nodes: No node need have room for a job yet: the cluster grows when asked to.
    """

    def __init__(self, ray: Mapping[str, Any], waits_for_nodes: bool) -> None:
        plain = OmegaConf.to_container(OmegaConf.create(dict(ray)), resolve=True)
        assert isinstance(plain, dict)
        self._init, self._remote = dict(plain["init"]), dict(plain["remote"])
        self._waits_for_nodes = waits_for_nodes

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives every launcher."""
        self._hydra_context, self._task_function = hydra_context, task_function
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return when all are over.

        Raises:
            ConfigError: If there is no such cluster, or no node of it has room for a job.
        """
        from admm_exp.app.cluster_job import ClusterJob, run_cluster_job

        ray = self._connected()
        needed = self._needed(ray)
        job = ray.put(ClusterJob(self._hydra_context, self._config, self._task_function))
        run = ray.remote(**needed)(run_cluster_job)
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        left = {
            run.remote(job, list(overrides), number): (number, overrides)
            for number, overrides in zip(numbers, job_overrides, strict=True)
        }
        returns = {}
        while left:
            done, _ = ray.wait(list(left))
            for task in done:
                number, overrides = left.pop(task)
                returns[number] = self._returned(ray, task, number, overrides)
        return [returns[number] for number in numbers]

    def _connected(self) -> Any:
        from admm_exp.errors import ConfigError

        try:
            import ray
        except ImportError:
            raise ConfigError(
                "hydra/launcher=ray_cluster needs Ray: pip install 'admm-exp[ray]'"
            ) from None
        if ray.is_initialized():
            return ray
        _require_answer(self._init.get("address"))
        try:
            ray.init(**self._init)
        except (ConnectionError, RuntimeError, TypeError, ValueError) as error:
            raise _no_cluster(self._init.get("address"), str(error)) from None
        return ray

    def _needed(self, ray: Any) -> dict[str, Any]:
        """Return what a job asks Ray for, once some node is seen to have it.

        Raises:
            ConfigError: If none has; Ray would wait for such a node for ever.
        """
        from admm_exp.errors import ConfigError

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = {
            n: max((float(x.get(r, 0)) for x in nodes), default=0.0) for n, r in AMOUNTS.items()
        }
        needed = dict(self._remote)
        if needed.get("num_gpus") == "auto":
            needed["num_gpus"] = min(1.0, most["num_gpus"])
        for name in AMOUNTS:
            wanted = float(needed.get(name) or 0)
            if wanted > most[name] and not self._waits_for_nodes:
                raise ConfigError(
                    f"hydra.launcher.ray.remote.{name}={wanted:g}, but no node of the Ray cluster "
                    f"has more than {most[name]:g}: ask for less, or set "
                    "hydra.launcher.waits_for_nodes=true if the cluster grows when asked to"
                )
        return needed

    def _returned(self, ray: Any, task: Any, number: int, overrides: Sequence[str]) -> JobReturn:
        from admm_exp.sweep.job import end_job, job_path

        error = None
        try:
            status = JobStatus.COMPLETED if ray.get(task) else JobStatus.FAILED
        except Exception as failure:
            said = str(failure).strip().splitlines() or [type(failure).__name__]
            error, status = f"its Ray task ended: {said[0]}", JobStatus.FAILED
            end_job(job_path(Path(self._config.hydra.sweep.dir), number), "failed", error)
        returned = JobReturn(overrides=list(overrides), status=status)
        returned.return_value = None if error is None else RuntimeError(error)
        return returned


def _require_answer(address: str | None) -> None:
    """Check that something listens where the cluster is said to be; Ray itself tries for long.

    Raises:
        ConfigError: If nothing does.
    """
    parts = urlsplit(address if address and "://" in address else f"ray://{address or ''}")
    try:
        if parts.hostname and parts.port:
            socket.create_connection((parts.hostname, parts.port), CONTACT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str | None, reason: str) -> "ConfigError":
    from admm_exp.errors import ConfigError

    said = (reason.strip().splitlines() or ["no reason given"])[0].rstrip(".")
    return ConfigError(
        f"hydra.launcher.ray.init.address={address} is no Ray cluster that answers ({said[:200]}): "
        "start one with `ray start --head`, correct the address, or leave it out"
    )
