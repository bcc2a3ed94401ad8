from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples in every run, on machines of any speed.
settings.register_profile(
    "rfsearch",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("rfsearch")
