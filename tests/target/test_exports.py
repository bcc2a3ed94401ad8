"""Annotations as YOLO, LabelMe and CVAT export them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from annotated import write
from helpers import refusal, rfsearch
from PIL import Image

from rfsearch.target._annotations_cvat import read_cvat
from rfsearch.target._annotations_labelme import read_labelme
from rfsearch.target._annotations_yolo import read_yolo
from rfsearch.target.annotations import Box
from rfsearch.target.scales import read_scales
from rfsearch.target.target import ScaleTarget

if TYPE_CHECKING:
    from pathlib import Path


def image(path: Path, width: int = 100, height: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)
    return path


# -- YOLO ----------------------------------------------------------------------------------

#: A box of 20 x 10 px in an image of 100 x 50 px, and a triangle of as many.
BOX, TRIANGLE = "0 0.5 0.5 0.2 0.2", "1 0.1 0.2 0.3 0.2 0.3 0.4"
#: Where the label, the image, and the names of the classes are.
LAYOUTS = {
    "labels/train": ("labels/train/a.txt", "images/train/a.png", "data.yaml"),
    "train/labels": ("train/labels/a.txt", "train/images/a.png", "data.yaml"),
    "side by side": ("a.txt", "a.png", "classes.txt"),
    "darknet": ("obj_train_data/a.txt", "obj_train_data/a.png", "obj.names"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_yolo_as_people_have_it(tmp_path: Path, name: str) -> None:
    label, picture, names = LAYOUTS[name]
    write(tmp_path / label, f"{BOX} 0.9\n\n{TRIANGLE}\n")
    image(tmp_path / picture)
    image((tmp_path / picture).with_name("empty.png"))
    write(tmp_path / "train.txt", picture)
    write(tmp_path / names, "names: [cat, dog]" if names == "data.yaml" else "cat\ndog\n")
    scales = read_scales(tmp_path)
    assert scales.widths == pytest.approx([20, 20])
    assert scales.heights == pytest.approx([10, 10])
    assert (scales.labels.tolist(), scales.class_names) == ([0, 1], ("cat", "dog"))
    assert (scales.num_images, scales.skipped.total) == (2, 0)
    if name == "labels/train":  # The parts of a data set are data sets, too.
        for part in ("labels", "labels/train", "data.yaml"):
            assert read_scales(tmp_path / part).class_names == ("cat", "dog")


def test_yolo_beside_images_that_are_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "labels" / "train" / "a.txt", BOX)
    picture = image(tmp_path / "elsewhere" / "train" / "a.png")
    labels = tmp_path / "labels"
    assert read_scales(labels, images=tmp_path / "elsewhere").widths == pytest.approx([20])
    picture.unlink()
    with pytest.raises(ValueError, match=r"1 missing image; 1 files of labels have no image in"):
        read_scales(labels)


def test_yolo_counts_what_it_cannot_use(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", "names: {0: cat, 4: owl}\nkpt_shape: [2, 3]")
    write(
        tmp_path / "labels/a.txt",
        f"{BOX} 0 0 1 0 0 1\n{TRIANGLE}\n4 0.5 0.5 0 0.1\n4 1.5 1.5 0.1 0.1",
    )
    image(tmp_path / "images/a.png")
    scales = read_scales(tmp_path)
    assert (len(scales), scales.class_names) == (1, ("cat", "owl"))
    assert str(scales.skipped) == "1 unknown category, 1 empty box, 1 outside"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2", "line 2: must be a class with 4 shares"),
        ("0 0.5 0.5 0.2 x", "line 2: must be numbers, but is '0 0.5 0.5 0.2 x'"),
        ("cat 0.5 0.5 0.2 0.2", "line 2: must be numbers"),
        ("0.5 0.5 0.5 0.2 0.2", "line 2: must begin with the number of a class, but is 0.5"),
        ("0 320 240 20 20", "line 2: must be shares of the image's sides, but is in px"),
    ],
)
def test_yolo_files_that_are_none(tmp_path: Path, line: str, reason: str) -> None:
    label = write(tmp_path / "labels" / "a.txt", f"{BOX}\n{line}")
    image(tmp_path / "images" / "a.png")
    said = refusal(rfsearch("target", tmp_path))
    assert f"{label}, {reason}" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("names: [", "not a YAML file"),
        ("names: cat", "`names` must be a list"),
        ("names: !!python/object/apply:os.getcwd []", "not a YAML file"),
    ],
)
def test_yolo_names_that_are_none(tmp_path: Path, text: str, reason: str) -> None:
    write(tmp_path / "labels" / "a.txt", BOX)
    with pytest.raises(ValueError, match=rf"data\.yaml: {reason}"):
        read_yolo(write(tmp_path / "data.yaml", text))


# -- LabelMe -------------------------------------------------------------------------------


def labelme(*shapes: Any, path: str = "a.jpg", **others: Any) -> str:
    content = {
        "version": "5.2.1",
        "shapes": [
            {"label": "cat", "points": points, "shape_type": kind, **more}
            for kind, points, more in shapes
        ],
        "imagePath": path,
        "imageData": "aGVsbG8=",
        "imageHeight": 50,
        "imageWidth": 100,
    }
    return json.dumps(content | others)


def test_labelme_shapes(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.json",
        labelme(
            ("polygon", [[1, 2], [11, 2], [5, 8]], {}),
            ("rectangle", [[30, 20], [10, 5]], {"group_id": None}),
            ("circle", [[50, 25], [53, 29]], {"label": "dog"}),
            ("polygon", [[60, 10], [62, 10], [61, 12]], {"group_id": 1}),
            ("polygon", [[70, 20], [72, 20], [71, 22]], {"group_id": 1}),
            ("point", [[5, 5]], {}),
            ("polygon", [[1, "x"]], {}),
        ),
    )
    found = read_labelme(file)
    boxes = [Box(1, 2, 11, 8), Box(10, 5, 30, 20), Box(45, 20, 55, 30), Box(60, 10, 72, 22), None]
    assert [one.box for one in found.objects] == boxes
    assert found.notes == ("ignored: 1 point shapes, which have no extent",)
    assert (found.images[0].file, found.images[0].size) == ("a.jpg", (50, 100))
    assert str(read_scales(file).skipped) == "1 no box"


def test_a_folder_of_labelme_files(tmp_path: Path) -> None:
    one = ("rectangle", [[0, 0], [10, 10]], {})
    write(tmp_path / "b" / "1.json", labelme(one, path="..\\images\\1.jpg"))
    write(tmp_path / "b" / "2.json", labelme(one, one, path="2.jpg"))
    write(tmp_path / "settings.json", "{}")
    image(tmp_path / "b" / "2.jpg")
    scales = read_scales(tmp_path)
    assert (len(scales), scales.num_images, str(scales.skipped)) == (2, 2, "1 duplicate")
    assert scales.notes == ("ignored: 1 JSON files without shapes",)
    assert read_labelme(tmp_path).images[0].file == "b/../images/1.jpg"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (labelme()[:-9], "not a JSON file"),
        ("[]", "not a LabelMe file: it has no list `shapes`"),
        (labelme(imageHeight="tall"), "height must be a whole number of px"),
    ],
)
def test_labelme_files_that_are_none(tmp_path: Path, text: str, reason: str) -> None:
    file = write(tmp_path / "a.json", text)
    said = refusal(rfsearch("target", file, "--format", "labelme"))
    assert f"{file}: {reason}" in said


# -- CVAT ----------------------------------------------------------------------------------


def cvat(inside: str, labels: str = "<label><name>cat</name></label>") -> str:
    head = "<?xml version='1.0' encoding='utf-8'?>\n<!-- CVAT -->\n<annotations>"
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    shapes = f'<image id="0" name="s/a.jpg" width="100" height="50">{inside}</image>'
    return f"{head}<version>1.1</version>{meta}{shapes}</annotations>"


def test_cvat_shapes(tmp_path: Path) -> None:
    shapes = [
        '<box label="cat" xtl="1" ytl="2" xbr="11" ybr="8"/>',
        '<box label="cat" xtl="40" ytl="20" xbr="60" ybr="30" rotation="90"/>',
        '<polygon label="cat" points="1.0,2.0;11,2;5,9"/>',
        '<polyline label="cat" points="1,2;20,3"/>',
        '<ellipse label="cat" cx="50" cy="25" rx="10" ry="5" rotation="90"/>',
        '<mask label="cat" rle="1, 2" left="3" top="4" width="5" height="6"/>',
        '<points label="cat" points="1,2"/>',
        '<box label="dog" xtl="1" ytl="2" xbr="3" ybr="4"/>',
        '<box label="cat" xtl="1" ytl="2" xbr="3"/>',
        '<tag label="cat"/>',
    ]
    write(tmp_path / "annotations.xml", cvat("".join(shapes)))
    found = read_cvat(tmp_path)
    expected = [
        (1, 2, 11, 8),
        (45, 15, 55, 35),
        (1, 2, 11, 9),
        (1, 2, 20, 3),
        (45, 15, 55, 35),
        (3, 4, 8, 10),
    ]
    for one, box in zip(found.objects, expected, strict=False):
        assert one.box == pytest.approx(box)
    assert found.notes == ("ignored, as they have no extent: 1 points",)
    scales = read_scales(tmp_path)
    assert (len(scales), scales.class_names) == (5, ("cat",))  # Two are the same.
    assert str(scales.skipped) == "1 unknown category, 1 no box, 1 duplicate"
    with pytest.warns(UserWarning, match="3 objects were skipped"):
        assert ScaleTarget.from_file(tmp_path).max_size > 10


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (cvat("")[:-9], "not an XML file"),
        ("<annotations><track id='0'/></annotations>", "is of a video (`track`): export it as"),
        (cvat("").replace('width="100"', 'width="wide"'), "image s/a.jpg: width must be"),
    ],
)
def test_cvat_files_that_are_none(tmp_path: Path, text: str, reason: str) -> None:
    file = write(tmp_path / "a.xml", text)
    assert f"{file}: {reason}" in refusal(rfsearch("target", file))
