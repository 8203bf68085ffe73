"""Gives the tests of this folder the evidence builder, by path: test folders are not packages."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "evidence_builder.py"


def _load() -> ModuleType:
    spec = spec_from_file_location("evidence_builder", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def builder() -> ModuleType:
    """The module `tests/evidence_builder.py`."""
    return _load()
