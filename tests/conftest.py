"""What every test shares: how Hypothesis searches."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

# No clock decides a test, and one tree has one verdict. To look further: pytest --hypothesis-profile=explore
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("steady"), derandomize=False, max_examples=3000)
# For deliberate errors, which need no small example: see tests/mutants.py.
settings.register_profile("hasty", settings.get_profile("steady"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("steady")
