"""The examples in the docstrings."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import rfsearch

PACKAGE = Path(rfsearch.__file__).parent
WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_modules_with_examples_are_found() -> None:
    known = {"field.receptive_field", "space.space", "target.target"}
    assert known <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    result = doctest.testmod(import_module(f"rfsearch.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
