"""Architectures from JSON and TOML files, and as TOML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rfsearch.basics.files import read_json
from rfsearch.basics.validation import parse, read_toml
from rfsearch.network.architecture import Architecture

if TYPE_CHECKING:
    from pathlib import Path


def read_architecture(path: Path) -> Architecture:
    """Read what `Architecture.to_dict` gives, or a trial's attribute `architecture`.

    Args:
        path: A JSON file, or one of TOML by its suffix.

    Raises:
        ValueError: If the file cannot be read, is of neither kind or no architecture.
    """
    if path.suffix.lower() == ".toml":
        return parse(Architecture, read_toml(path), str(path))
    values = read_json(path)
    try:
        if isinstance(values, str):  # A trial's attribute is JSON itself.
            values = json.loads(values)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file ({error}).") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must be an architecture, but holds {json.dumps(values)[:40]}.")
    return parse(Architecture, values, str(path))


def architecture_toml(architecture: Architecture) -> str:
    """An architecture as TOML, which `read_architecture` reads: a line for each stage."""
    lines = []
    for name, value in architecture.to_dict().items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{name} = [", *(f"    {_toml(one)}," for one in value), "]"]
        elif value is not None:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A plain value in one line; what is None is left out of a table."""
    if isinstance(value, dict):
        pairs = (f"{name} = {_toml(one)}" for name, one in value.items() if one is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)  # Texts, numbers and truths are written as in JSON.
