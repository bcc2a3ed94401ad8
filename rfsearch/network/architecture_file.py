"""Architectures from JSON files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rfsearch.basics.files import read_json
from rfsearch.basics.validation import parse
from rfsearch.network.architecture import Architecture

if TYPE_CHECKING:
    from pathlib import Path


def read_architecture(path: Path) -> Architecture:
    """Read what `Architecture.to_dict` gives, or a trial's attribute `architecture`, from JSON.

    Raises:
        ValueError: If the file cannot be read, is no JSON or no architecture.
    """
    values = read_json(path)
    try:
        if isinstance(values, str):  # A trial's attribute is JSON itself.
            values = json.loads(values)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file ({error}).") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must be an architecture, but holds {json.dumps(values)[:40]}.")
    return parse(Architecture, values, str(path))
