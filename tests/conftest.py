"""What every test shares: how Hypothesis searches."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No clock decides a test, and one tree has one verdict. To look further: pytest --hypothesis-profile=explore
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("steady"), derandomize=False, max_examples=3000)
settings.load_profile("steady")
