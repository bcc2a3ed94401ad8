from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from rfsearch.basics.validation import (
    FrozenData,
    checked_size,
    describe_place,
    parse,
    placed,
    read_toml,
)


class Inner(FrozenData):
    """A part."""

    size: Annotated[int, Field(ge=1)]
    name: str = "inner"


class Outer(FrozenData):
    """A whole."""

    inner: Inner
    parts: Annotated[tuple[Inner, ...], Field(strict=False)] = ()


def test_good_values() -> None:
    values = {"inner": {"size": 2}, "parts": [{"size": 1, "name": "first"}]}
    parsed = parse(Outer, values, "file")
    assert parsed == Outer(inner=Inner(size=2), parts=(Inner(size=1, name="first"),))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "file: inner: missing key; allowed keys are inner, parts."),
        ({"inner": {}}, "file: inner, size: missing key; allowed keys are size, name."),
        (
            {"inner": {"size": 1, "sise": 2}},
            "file: inner, sise: unknown key; allowed keys are size, name.",
        ),
        (
            {"inner": {"size": 1}, "parts": [{"size": 1}, {"sise": 2, "size": 1}]},
            "file: part 2, sise: unknown key; allowed keys are size, name.",
        ),
        (
            {"inner": {"size": 0}},
            "file: inner, size: Input should be greater than or equal to 1, but got 0.",
        ),
        (
            {"inner": {"size": "1"}},
            "file: inner, size: Input should be a valid integer, but got '1'.",
        ),
        (
            {"inner": {"size": 1}, "parts": [{"size": 1}, {"size": -3}]},
            "file: part 2, size: Input should be greater than or equal to 1, but got -3.",
        ),
    ],
)
def test_bad_values_get_one_line(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^file: ") as caught:
        parse(Outer, values, "file")
    assert str(caught.value) == message
    assert not isinstance(caught.value, ValidationError)


def test_data_is_frozen_and_hashable() -> None:
    inner = Inner(size=1)
    assert hash(inner) == hash(Inner(size=1))
    with pytest.raises(ValidationError, match="frozen"):
        inner.size = 2  # type: ignore[misc]  # the mistake that is tested


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ((), ""),
        (("stem",), "stem"),
        (("stages", 0), "stage 1"),
        (("stages", 1, "blocks", 0, "kernel_size"), "stage 2, block 1, kernel_size"),
        (("stages", 1, "function-after[check(), int]"), "stage 2"),
        (("kernel_size", 2), "kernel_size 3"),
    ],
)
def test_describe_place(location: tuple[int | str, ...], place: str) -> None:
    assert describe_place(location) == place


def test_read_toml(tmp_path: Path) -> None:
    path = tmp_path / "data.toml"
    path.write_text('name = "größe"\n[[stages]]\ndepth = [1, 2]\n', encoding="utf-8")
    assert read_toml(path) == {"name": "größe", "stages": [{"depth": [1, 2]}]}


def test_read_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r": cannot be read \(it is a folder\)\.$"):
        read_toml(tmp_path)


@pytest.mark.parametrize("content", [b"a = ", b"a = 1\na = 2\n"])
def test_read_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.toml: not a TOML file \(") as caught:
        read_toml(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("given", "size"), [(5, (5, 5)), ((3, 4), (3, 4)), ([3, 4], (3, 4))])
def test_size(given: Any, size: tuple[int, int]) -> None:
    assert checked_size(given) == size


@pytest.mark.parametrize("given", [0, (3, 0), (1, 2, 3)])
def test_impossible_size(given: Any) -> None:
    with pytest.raises(ValueError, match="`input_size` must be a side or"):
        checked_size(given)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("`epochs >= 1` must hold.", "a.toml: `epochs >= 1` must hold."),
        ("/data/x.png: no image: at all", "/data/x.png: no image: at all"),
        ("training: 3/4 is no share", "a.toml: training: 3/4 is no share"),
        ("`x` must be a name: /etc", "a.toml: `x` must be a name: /etc"),
    ],
)
def test_the_place_is_named_once(message: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"), placed("a.toml"):
        raise ValueError(message)
