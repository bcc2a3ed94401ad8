"""Workers on a Ray cluster: Ray places them by their share of a GPU, and starts lost ones anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rfsearch.search.study import StudyAddress

#: Seconds between two looks at the workers.
_POLL = 1.0
#: Seconds that workers may need to end once the search is over.
_END = 30


class RayJob(NamedTuple):
    """What each worker needs to know.

    Attributes:
        experiment: The experiment's file; all nodes must have it under this path.
        address: Of the study, in a database that all nodes reach.
        heartbeat: Seconds between two signs of life.
        grace: Seconds that a worker has to hand back its trial.
    """

    experiment: Path
    address: StudyAddress
    heartbeat: float
    grace: float


def connect_to_ray() -> None:
    """Join the cluster of `RAY_ADDRESS`, or one on this machine, which is started if need be.

    Raises:
        ValueError: If Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("--on ray needs Ray; pip install 'rfsearch[ray]'.") from None
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"The Ray cluster cannot be reached ({reason}).") from None


def gpu_share(asked: float | None) -> float:
    """Share of a GPU for each worker: by default a whole one, where the cluster has any."""
    import ray

    available = float(ray.cluster_resources().get("GPU", 0))
    share = min(1.0, available) if asked is None else asked
    if share > available:
        raise ValueError(f"--gpus {share:g} cannot be had: the cluster has {available:g} GPUs.")
    return share


def work_on_ray(job: RayJob, number: int, gpus: float, look: Callable[[], bool]) -> None:
    """Let workers search until all have ended.

    Args:
        job: What they work on.
        number: How many workers.
        gpus: Share of a GPU that each has.
        look: Called every second; False once the search is over, so that workers which wait for
            a place are not started any more.

    Raises:
        RuntimeError: If a worker has failed.
        KeyboardInterrupt: If interrupted; the workers have handed back their trials.
    """
    import ray

    # Ray starts a worker anew, wherever there is a place, when its process or its node is lost.
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=-1)(_work)
    waiting = [remote.remote(job) for _ in range(number)]
    try:
        while waiting and look():
            waiting = _ended(waiting, _POLL)
    finally:
        # Once the search is over they end by themselves, but some may still wait for a place.
        _, running = (
            ray.wait(waiting, num_returns=len(waiting), timeout=3) if waiting else ([], [])
        )
        for worker in running:
            ray.cancel(worker)
        if running:
            ray.wait(running, num_returns=len(running), timeout=job.grace + _END)


def _ended(waiting: list[object], timeout: float) -> list[object]:
    """Those that have not ended within the time."""
    import ray

    ended, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=timeout)
    for worker in ended:
        try:
            ray.get(worker)
        except ray.exceptions.RayTaskError as error:
            raise RuntimeError(f"A worker has failed: {error.cause!r}") from error
    return waiting


def _work(job: RayJob) -> None:
    import optuna

    from rfsearch.search.experiment import Experiment
    from rfsearch.search.study import open_study
    from rfsearch.storage.retrying_storage import PATIENCE
    from rfsearch.workers.interrupts import Interrupts
    from rfsearch.workers.worker import Worker

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    experiment = Experiment.load(job.experiment)
    with open_study(experiment, job.address, alone=False, wait=PATIENCE) as study:
        interrupts = Interrupts(job.grace)
        Worker(study, experiment, heartbeat=job.heartbeat, interrupts=interrupts).work()
