from __future__ import annotations

import os
from collections.abc import Iterator

import optuna
import pytest
from hypothesis import HealthCheck, settings

# The networks here are small: threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, on machines of any speed.
settings.register_profile(
    "rfsearch",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("rfsearch")


def pytest_configure(config: pytest.Config) -> None:
    # torch warns so, once, whenever `torch.backends.mkldnn.flags` is used without an Intel GPU.
    ignored = "ignore:TF32 acceleration on top of oneDNN:UserWarning"
    config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(autouse=True)
def quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)
