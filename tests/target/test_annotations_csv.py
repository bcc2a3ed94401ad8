from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from annotated import write

from rfsearch.target._annotations_csv import read_csv
from rfsearch.target.annotations import AnnotatedImage, AnnotatedObject, Box

if TYPE_CHECKING:
    from pathlib import Path

    from rfsearch.target.annotations import Annotations

HEADER = "image_path,xmin,ymin,xmax,ymax,label\n"


def read(folder: Path, text: str) -> Annotations:
    return read_csv(write(folder / "a.csv", text))


def test_rows(tmp_path: Path) -> None:
    found = read(
        tmp_path, f"{HEADER}b.png,1,2,3.5,4,nut\n\na.png, 5 ,6,7,8,screw\nb.png,0,0,1,1,nut"
    )
    assert found.images == (AnnotatedImage("b.png", None), AnnotatedImage("a.png", None))
    assert found.objects == (
        AnnotatedObject(0, "nut", Box(1, 2, 3.5, 4)),
        AnnotatedObject(1, "screw", Box(5, 6, 7, 8)),
        AnnotatedObject(0, "nut", Box(0, 0, 1, 1)),
    )
    assert found.class_names == ("nut", "screw")


def test_other_names_and_image_sizes(tmp_path: Path) -> None:
    text = "filename,width,height,class,xmin,ymin,xmax,ymax\n'a.png',100,80,nut,1,2,3,4\n"
    found = read(tmp_path, text.replace("'", '"'))
    assert found.images == (AnnotatedImage("a.png", (80, 100)),)
    assert found.objects == (AnnotatedObject(0, "nut", Box(1, 2, 3, 4)),)


def test_without_classes(tmp_path: Path) -> None:
    found = read(tmp_path, "image,xmin,ymin,xmax,ymax\na.png,1,2,3,4\n")
    assert found.objects[0].label == "object"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a.png,,,,,", AnnotatedObject(0, None, None)),
        ("a.png,1,2", AnnotatedObject(0, None, None)),
        (",1,2,3,4,nut", AnnotatedObject(None, "nut", Box(1, 2, 3, 4))),
        ("a.png,1,2,x,4,nut", AnnotatedObject(0, "nut", None)),
        ("a.png,1,2,3,4,nut,more,cells", AnnotatedObject(0, "nut", Box(1, 2, 3, 4))),
    ],
)
def test_rows_that_lack_something(tmp_path: Path, row: str, expected: AnnotatedObject) -> None:
    assert read(tmp_path, HEADER + row).objects == (expected,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"lacks image_path, xmin, ymin, xmax, ymax; it has none\.$"),
        (
            "image_path,xmin,ymin,xmax,label\n",
            r"lacks ymax; it has image_path, xmin, ymin, xmax, l",
        ),
        ("xmin,ymin,xmax,ymax\n1,2,3,4\n", r"lacks image_path; it has xmin,"),
        (HEADER + '"a"b.png,1,2,3,4,nut', r"not a CSV file \(.* in line 2\)\.$"),
        (HEADER + '"a.png,1,2,3,4,nut', r"not a CSV file \(.* in line 2\)\.$"),
    ],
)
def test_files_that_are_no_table_of_boxes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.csv: .*{message}"):
        read(tmp_path, text)


def test_a_table_without_rows_has_no_objects(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER).objects == ()
