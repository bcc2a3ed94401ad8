from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import architecture

from rfsearch.network.architecture_file import read_architecture


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(architecture().to_dict()))
    assert read_architecture(file) == architecture()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"a\.json: not a JSON file \(Expecting property name"),
        ("[1, 2]", r"a\.json: must be an architecture, but holds \[1, 2\]\."),
        ('"nonsense"', r"a\.json: not a JSON file"),
        ("{}", r"a\.json: stem: missing key; allowed keys are num_axes, stem, stages, neck\."),
        ('{"stem": {}, "stages": [], "x": 1}', r"a\.json: "),
    ],
)
def test_files_that_are_no_architecture(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_architecture(file)
