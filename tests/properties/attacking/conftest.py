"""Gives the tests of this folder the population and its planted generators, by path: test folders are not packages."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "attack_tables.py"


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """The module `tests/attack_tables.py`."""
    if (known := sys.modules.get("attack_tables")) is not None:
        return known
    spec = spec_from_file_location("attack_tables", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
