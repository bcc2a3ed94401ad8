from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from annotated import voc, voc_object, write

from rfsearch.target.annotations import AnnotatedImage, AnnotatedObject, Box
from rfsearch.target.annotations_voc import read_voc

if TYPE_CHECKING:
    from pathlib import Path


def test_one_file(tmp_path: Path) -> None:
    text = voc(voc_object(1, 2, 11.5, " 22 "), voc_object(3, 4, 5, 6, "nut"))
    found = read_voc(write(tmp_path / "a.xml", text))
    assert found.images == (AnnotatedImage("a.png", (80, 100)),)
    assert found.objects == (
        AnnotatedObject(0, "screw", Box(1, 2, 11.5, 22)),
        AnnotatedObject(0, "nut", Box(3, 4, 5, 6)),
    )
    assert found.class_names == ("nut", "screw")


def test_a_folder_and_its_subfolders(tmp_path: Path) -> None:
    write(tmp_path / "b" / "2.xml", voc(voc_object(1, 1, 2, 2), size=""))
    write(tmp_path / "1.xml", "<annotation/>")
    write(tmp_path / "notes.txt", "not an annotation")
    found = read_voc(tmp_path)
    assert found.images == (AnnotatedImage("1", None), AnnotatedImage("b/a.png", None))
    assert [one.image for one in found.objects] == [1]


def test_encodings_are_as_stated(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="latin-1"?>' + voc(voc_object(1, 2, 3, 4, "Mädchen"))
    (tmp_path / "a.xml").write_bytes(text.encode("latin-1"))
    assert read_voc(tmp_path / "a.xml").class_names == ("Mädchen",)
    (tmp_path / "a.xml").write_bytes(b"\xef\xbb\xbf" + voc(voc_object(1, 2, 3, 4, "ä")).encode())
    assert read_voc(tmp_path / "a.xml").class_names == ("ä",)
    write(tmp_path / "a.xml", text.replace("latin-1", "klingon"))
    with pytest.raises(ValueError, match=r"a\.xml: not an XML file \(unknown encoding"):
        read_voc(tmp_path / "a.xml")


def test_parts_of_objects_are_not_objects(tmp_path: Path) -> None:
    part = f"<part>{voc_object(1, 1, 2, 2, 'head')}</part>"
    found = read_voc(write(tmp_path / "a.xml", voc(voc_object(1, 2, 3, 4) + part)))
    assert found.objects == (AnnotatedObject(0, "screw", Box(1, 2, 3, 4)),)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<name>nut</name>", AnnotatedObject(0, "nut", None)),
        (voc_object(1, 2, "", 4), AnnotatedObject(0, "screw", None)),
        (voc_object(1, 2, "x", 4), AnnotatedObject(0, "screw", None)),
        (voc_object(1, 2, 3, 4, name=" "), AnnotatedObject(0, None, Box(1, 2, 3, 4))),
        ("", AnnotatedObject(0, None, None)),
    ],
)
def test_objects_that_lack_something(
    tmp_path: Path, inside: str, expected: AnnotatedObject
) -> None:
    assert read_voc(write(tmp_path / "a.xml", voc(inside))).objects == (expected,)


@pytest.mark.parametrize("size", ["<size><width>0</width><height>0</height></size>", "<size/>"])
def test_sizes_that_are_none(tmp_path: Path, size: str) -> None:
    assert read_voc(write(tmp_path / "a.xml", voc(size=size))).images[0].size is None


@pytest.mark.parametrize("text", ["", "<annotation>", voc(voc_object(1, 2, 3, 4))[:-5], "{}"])
def test_a_truncated_file_among_good_ones(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a.xml", voc())
    write(tmp_path / "b.xml", text)
    with pytest.raises(ValueError, match=r"b\.xml: not an XML file \(.*\)\.$"):
        read_voc(tmp_path)


def test_a_file_of_another_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"its root must be `annotation`, but is `PAMDataset`\.$"):
        read_voc(write(tmp_path / "a.xml", "<PAMDataset/>"))


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no XML file in this folder"):
        read_voc(tmp_path)


def test_no_entity_is_expanded(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", "42")
    names = "abcdefghij"
    bomb = "".join(f'<!ENTITY {new} "{10 * f"&{old};"}">' for old, new in pairwise(names))
    for declaration in (
        f'[<!ENTITY a "x">{bomb}]',
        f'[<!ENTITY j SYSTEM "{secret.as_uri()}">]',
        f'SYSTEM "{secret.as_uri()}"',
    ):
        text = f"<!DOCTYPE annotation {declaration}>" + voc(voc_object(1, 2, 3, 4, "&j;"))
        with pytest.raises(ValueError, match=r"a\.xml: not an XML file \(it has a document type"):
            read_voc(write(tmp_path / "a.xml", text))
