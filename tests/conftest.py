"""What every test shares: how Hypothesis searches, how many threads there are, and which tests run side by side."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

# Of torch, here and in every process that a test starts: its threads wait for each other on models this small, and on
# a busy machine that costs ten times what it saves. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No clock decides a test, and one tree has one verdict. To look further: pytest --hypothesis-profile=explore
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("steady"), derandomize=False, max_examples=3000)
# For deliberate errors, which need no small example: see tests/mutants.py.
settings.register_profile("hasty", settings.get_profile("steady"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def _families_are_trained_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the trained families are, for all processes of this run (tests/families.py)."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    os.environ["NONESUCH_TEST_FAMILIES"] = str(root / "families")


@pytest.fixture(scope="session", autouse=True)
def _translations_are_listed_once() -> Iterator[None]:
    """torch's exporter lists all of its translations anew for each graph, which takes it half a second."""
    if "torch" not in sys.modules:
        yield
        return
    from onnxscript._framework_apis import torch_2_5

    listed = torch_2_5.get_torchlib_ops
    torch_2_5.get_torchlib_ops = cache(listed)
    yield
    torch_2_5.get_torchlib_ops = listed


def pytest_collection_finish() -> None:
    """What is imported stays: the collector need not look at it again each time that an export makes new objects."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under ``pytest -n N --dist loadfile``, a file's tests share a process, and with it their servers.

    The contract tests are many: there the tests of one family do.
    """
    from xdist.scheduler import LoadFileScheduling

    families = sorted((path.stem for path in (config.rootpath / "recipes/contract").glob("*.yaml")), key=len)

    class ByFamily(LoadFileScheduling):  # type: ignore[misc,unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            if file == "tests/contract/test_families.py":
                parameters = test.partition("[")[2]
                named = [family for family in families if parameters.startswith(family)]
                return f"{file} {named[-1] if named else ''}"  # the longest name that fits
            return file

    return ByFamily(config, log)
