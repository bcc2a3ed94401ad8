from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

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
