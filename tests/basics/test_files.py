from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from annotated import coco, voc, voc_object

from rfsearch.basics import files
from rfsearch.basics.files import read_json, read_text
from rfsearch.basics.images import read_header, read_numbers, read_pixels
from rfsearch.basics.validation import read_toml
from rfsearch.network.network_folder import load_network
from rfsearch.target._annotations_csv import read_csv
from rfsearch.target.annotations_coco import read_coco
from rfsearch.target.annotations_voc import read_voc

if TYPE_CHECKING:
    from collections.abc import Callable

CSV = "image_path,xmin,ymin,xmax,ymax\na.png,0,0,30,30\n"
#: Everything that reads a file of a person's, and text that it reads.
TEXTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "toml": (read_toml, "a = 1"),
    "json": (read_json, "[1]"),
    "coco": (read_coco, json.dumps(coco())),
    "voc": (read_voc, voc(voc_object(1, 2, 3, 4))),
    "csv": (read_csv, CSV),
}
READERS = {name: read for name, (read, _) in TEXTS.items()} | {
    "header": read_header,
    "pixels": read_pixels,
    "numbers": read_numbers,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing", "name"])
def test_what_is_no_regular_file_is_one_line(tmp_path: Path, reader: str, kind: str) -> None:
    path, reason = tmp_path / "x.tif", f"it is a {kind}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "folder" and reader == "voc":
        pytest.skip("may be a folder")
    elif kind == "folder":
        path.mkdir()
    elif kind == "nothing":
        reason = "No such file"
    else:
        path, reason = tmp_path / "\udcff\ud800", "surrogates not allowed"
    with pytest.raises(ValueError, match=rf"cannot be read \(.*{reason}.*\)\.$") as error:
        READERS[reader](path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", TEXTS)
def test_a_byte_order_mark_is_read_over(tmp_path: Path, name: str) -> None:
    read, text = TEXTS[name]
    path = tmp_path / "x"
    path.write_text(text, encoding="utf-8")
    without = read(path)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(path) == without


def test_files_too_large_to_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 4)
    (tmp_path / "x").write_text("1234")
    assert read_text(tmp_path / "x") == "1234"
    (tmp_path / "x").write_text("12345")
    with pytest.raises(ValueError, match=r"x: must have .* GiB at most"):
        read_text(tmp_path / "x")


def test_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffÄ".encode())
    assert read_text(tmp_path / "a") == "Ä"
    (tmp_path / "a").write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match=r"a: not a text file in UTF-8\.$"):
        read_text(tmp_path / "a")


def test_half_characters_are_refused_and_whole_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(r'{"name": "\ud83d\ude00"}')
    assert read_json(tmp_path / "a") == {"name": "\U0001f600"}
    for half in (r'["\ud83d"]', r'{"\uDE00": 1}', r'["\ude00\ud83d"]'):
        (tmp_path / "a").write_text(half)
        with pytest.raises(ValueError, match=r"a: holds half a character, '\\ud"):
            read_json(tmp_path / "a")


def test_the_configuration_of_a_network_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"it is a pipe\)\. Give a folder of `rfsearch export`"):
        load_network(tmp_path)


def test_the_first_file_with_the_same_bytes(tmp_path: Path) -> None:
    start = bytes(range(256)) * 100
    contents = [start + b"a", start + b"b", start + b"a", b"", b"short", b"", start[:-1] + b"ab"]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    missing = tmp_path / "missing"
    assert files.first_alike([*paths, missing, missing]) == [0, 1, 0, 3, 4, 3, 6, 7, 8]
