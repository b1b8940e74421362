"""The examples in the docstrings run, and every family has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re

import pytest

import models
from models.base import registry
from training import law

MODULES = [module.name for module in pkgutil.walk_packages(models.__path__, "models.")]


@pytest.mark.parametrize("name", [*MODULES, law.__name__])
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("family", sorted(registry()))
def test_every_family_shows_an_example_and_names_its_source(family: str) -> None:
    module = importlib.import_module(registry()[family].__module__)
    assert module.__doc__ is not None
    assert doctest.testmod(module).attempted >= 4
    assert re.search(r"log [pP]\(x\)", module.__doc__)
