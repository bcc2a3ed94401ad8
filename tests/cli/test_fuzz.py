"""Files that something has broken: every reader refuses them in one line, or reads them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import rfsearch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_mistakes import COCO, EXPERIMENT, LAYERS, VOC, valid_data

from rfsearch.search.experiment import Experiment

FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "toy.toml": (
        (Path(__file__).parents[2] / "search_spaces" / "toy.toml").read_text(),
        ("space",),
    ),
    "layers.toml": (LAYERS, ("rf",)),
    "net.json": (json.dumps(valid_data()["net.json"]), ("rf",)),
    "coco.json": (json.dumps(COCO), ("target",)),
    "voc.xml": (VOC, ("target",)),
    "boxes.csv": ("file_name,label,xmin,ymin,xmax,ymax\na.png,x,2,3,12,14\n", ("target",)),
}


@st.composite
def broken(draw: st.DrawFn, text: str) -> bytes:
    """The text with some of its bytes replaced, left out, put in, doubled or cut off."""
    content = text.encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 12)))
        middle = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b"-1", b"0", b"1e999", b"nan", b"[", b'"', b"null", b"9" * 30]),
                st.just(content[start:stop] * 2),
            )
        )
        tail = b"" if draw(st.integers(0, 9)) == 0 else content[stop:]
        content = content[:start] + middle + tail
    return content


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FILES))
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_broken_file(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    text, command = FILES[name]
    file = tmp_path_factory.mktemp("fuzz") / name
    file.write_bytes(data.draw(broken(text)))
    result = rfsearch(*command, file)
    if result.exit_code:
        assert result.exit_code == 2, result.exception
        assert [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in result.output


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(content=broken(EXPERIMENT))
def test_a_broken_experiment(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "space.toml").write_text(FILES["toy.toml"][0])
    (folder / "experiment.toml").write_bytes(content)
    with suppress(ValueError):
        Experiment.load(folder, "cpu")
