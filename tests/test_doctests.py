"""The examples in the docstrings."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import rfsearch


def has_examples(name: str) -> bool:
    text = (Path(rfsearch.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return ">>> " in text


MODULES = [info.name for info in pkgutil.iter_modules(rfsearch.__path__)]
WITH_EXAMPLES = [name for name in MODULES if has_examples(name)]


def test_modules_with_examples_are_found() -> None:
    assert {"receptive_field", "expression", "space", "target", "validation"} <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    result = doctest.testmod(import_module(f"rfsearch.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
