from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import SIZES, coco, voc, voc_object, write, write_coco
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packages import DEEPFOREST, SOLARIS, STARDIST, PackageFiles
from PIL import Image

from rfsearch.target.object_scales import ObjectScales, Skipped
from rfsearch.target.scales import FORMATS, read_scales

CSV = "image_path,xmin,ymin,xmax,ymax,label\na.png,0,0,30,30,nut\n"
LABELME = (
    '{"shapes": [{"label": "nut", "points": [[1, 2], [10, 6]], "shape_type": "rectangle"}], '
    '"imagePath": "a.jpg", "imageHeight": 50, "imageWidth": 100}'
)
CVAT = (
    '<annotations><image name="a.jpg" width="100" height="50">'
    '<box label="nut" xtl="1" ytl="2" xbr="11" ybr="12"/></image></annotations>'
)


def save_mask(path: Path) -> Path:
    mask = np.zeros((20, 20), dtype=np.uint8)
    mask[:4, :9], mask[10:, 10:] = 1, 2
    Image.fromarray(mask).save(path)
    return path


@pytest.fixture
def files(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same folder has annotations in all formats, but for those of tools."""
    others = tmp_path_factory.mktemp("tools")
    for name in ("a", "damaged"):
        Image.new("L", (100, 50)).save(others / f"{name}.jpg")
    return {
        "yolo": write(others / "a.txt", "0 0.5 0.5 0.1 0.2\n1 0.2 0.5 0.2 0.4\n"),
        "labelme": write(others / "a.json", LABELME),
        "cvat": write(others / "a.xml", CVAT),
        "coco": write_coco(tmp_path),
        "voc": write(tmp_path / "a.xml", voc(voc_object(0, 0, 20, 20))),
        "masks": save_mask(tmp_path / "a.png"),
        "csv": write(tmp_path / "a.csv", CSV),
    }


EXPECTED = {
    "yolo": [10, 20],
    "labelme": [6],
    "cvat": [10],
    "coco": SIZES,
    "voc": [20],
    "masks": [6, 10],
    "csv": [30],
}


@pytest.mark.parametrize("format", FORMATS)
def test_formats_by_name_and_as_stated(files: dict[str, Path], format: Any) -> None:
    for stated in ("auto", format):
        scales = read_scales(str(files[format]), format=stated)
        assert sorted(scales.sizes) == pytest.approx(EXPECTED[format])
    other = files[format].rename(files[format].with_suffix(".data"))
    assert sorted(read_scales(other, format=format).sizes) == pytest.approx(EXPECTED[format])


def test_a_folder_is_of_voc_files_or_of_masks(files: dict[str, Path]) -> None:
    folder = files["voc"].parent
    assert read_scales(folder).sizes.tolist() == [20]
    assert sorted(read_scales(folder, format="masks").sizes) == [6, 10]
    files["voc"].unlink()
    for other in ("coco", "csv"):
        with pytest.raises(ValueError, match=r"is not a folder of masks alone: it holds 1 "):
            read_scales(folder)
        files[other].unlink()
    assert sorted(read_scales(folder).sizes) == [6, 10]


def noise(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


#: Folders of data sets whose grey photographs are no masks, and what is said of them.
ROOTS = {
    "flat YOLO": (["1.png", "1.txt"], r"1\.txt, line 1: must be numbers, but is '{}'"),
    "Roboflow": (["train/1.png", "train/_annotations.coco.json"], r"such as .*coco\.json\."),
    "masks beside images": (["images/1.png", "masks/1.png"], r"2 \.png, such as images/1\.png\."),
    "photographs in JPEG": (["1.jpg", "1.png"], r"such as 1\.jpg\. Give the annotations"),
    "no masks": (["images/1.jpg", "notes/2.txt"], r"it holds 1 \.jpg, 1 \.txt\) is not known"),
    "classes": (["cat/1.png", "dog/2.png"], r"1\.png: not a mask but shades: 2\d\d of its 25\d"),
}


@pytest.mark.parametrize("name", ROOTS)
def test_folders_of_photographs_are_no_masks(tmp_path: Path, name: str) -> None:
    files, message = ROOTS[name]
    for number, file in enumerate(files):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            Image.fromarray(noise(number)).save(path)
        else:
            path.write_text("{}")
    with pytest.raises(ValueError, match=message):
        read_scales(tmp_path)


def test_resizing(files: dict[str, Path]) -> None:
    native = read_scales(files["coco"])
    assert (native.input_size, native.resize) == (None, "none")
    # The image has 80 x 100 px.
    assert read_scales(files["coco"], 50).sizes == pytest.approx(native.sizes / 2)
    assert read_scales(files["coco"], 40, "shorter").sizes == pytest.approx(native.sizes / 2)
    assert read_scales(files["coco"], (20, 100), "stretch").sizes == pytest.approx(
        native.sizes / 2
    )
    tiles = read_scales(files["coco"], (64, 32), "none")
    assert (tiles.input_size, tiles.num_larger_than_input) == ((64, 32), 1)
    assert np.array_equal(tiles.sizes, native.sizes)


def test_classes(files: dict[str, Path]) -> None:
    scales = read_scales(files["masks"], semantic=True, classes=["2"])
    assert (scales.sizes.tolist(), scales.class_names) == ([10], ("2",))
    with pytest.raises(ValueError, match="There is no class '3'; the classes are 1, 2"):
        read_scales(files["masks"], semantic=True, classes=["3"])


def test_everything_that_may_be_wrong_with_an_object_is_counted(tmp_path: Path) -> None:
    good = {"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 4]}
    wrong: list[dict[str, Any]] = [
        {"iscrowd": 1},
        {"image_id": 8},
        {"category_id": 9},
        {"bbox": [1, 2, 3]},
        {"bbox": [10, 10, 0, 5]},
        {"bbox": [200, 0, 10, 10]},
    ]
    content = coco(annotations=[good, *(good | one for one in wrong)])
    scales = read_scales(write_coco(tmp_path, content))
    assert scales.sizes.tolist() == [6]
    assert scales.skipped == Skipped(1, 1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (coco(annotations=[]), "none"),
        (coco([200, 0, 9, 9], [0, 0, 0, 0]), "1 empty box, 1 outside"),
    ],
)
def test_no_object_that_can_be_used(tmp_path: Path, content: Any, counts: str) -> None:
    message = rf"coco\.json: must hold at least one object .* none \(skipped: {counts}\)\.$"
    with pytest.raises(ValueError, match=message):
        read_scales(write_coco(tmp_path, content))


def test_a_class_without_objects(tmp_path: Path) -> None:
    names = [{"id": 3, "name": "screw"}, {"id": 4, "name": "nut"}]
    path = write_coco(tmp_path, coco(categories=names))
    with pytest.raises(ValueError, match=r"but holds none of nut \(skipped: none\)"):
        read_scales(path, classes=["nut"])


def test_files_of_unknown_kinds(files: dict[str, Path]) -> None:
    folder = files["coco"].parent
    with pytest.raises(ValueError, match="nothing: there is no such file or folder"):
        read_scales(folder / "nothing", format="coco")
    with pytest.raises(ValueError, match=r"`format` must be one of auto, coco.*but got 'kitti'"):
        read_scales(files["coco"], format="kitti")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match=r"the format of a \.md file is not known"):
        read_scales(write(folder / "a.md", ""))
    with pytest.raises(ValueError, match=r"the format of a folder without \.xml files and masks"):
        read_scales(write(folder / "b" / "a.txt", "").parent)
    for format in ("coco", "csv"):
        with pytest.raises(ValueError, match=f"of format {format} are a file, not a folder"):
            read_scales(folder, format=format)
    with pytest.raises(ValueError, match="`semantic` is for masks, but the format is coco"):
        read_scales(files["coco"], semantic=True)


def test_folders_of_images_that_are_none(files: dict[str, Path]) -> None:
    folder = files["coco"].parent
    with pytest.raises(ValueError, match="nothing: there is no such folder of images"):
        read_scales(files["coco"], images=folder / "nothing")
    with pytest.raises(ValueError, match="`images` is for boxes; masks have a size of their own"):
        read_scales(files["masks"], images=folder)


#: What may be put anywhere into a file, beside any bytes.
ODDITIES = (b"null", b"-1", b"1e999", b"NaN", b'"', b"[]", b"<", b",", b"\0", b"9" * 400)


@pytest.mark.parametrize("format", FORMATS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_in_one_line(
    files: dict[str, Path], format: Any, data: st.DataObject
) -> None:
    whole = files[format].read_bytes()
    start = data.draw(st.integers(0, len(whole)), "start")
    end = data.draw(st.integers(start, len(whole)), "end")
    inserted = data.draw(st.sampled_from(ODDITIES) | st.binary(max_size=4), "inserted")
    damaged = files[format].with_stem("damaged")
    damaged.write_bytes(whole[:start] + inserted + whole[end:])
    sizes, refusal = sizes_or_refusal(damaged)
    assert refusal.startswith(str(damaged.parent)) != (len(sizes) > 0)
    assert (np.array(sizes) > 0).all()


def sizes_or_refusal(path: Path) -> tuple[list[float], str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of Pillow, and of what damaged masks look like.
        try:
            return read_scales(path, 50).sizes.tolist(), ""
        except ValueError as error:
            return [], str(error)


@pytest.mark.parametrize("size", [0, (10, -1)])
def test_input_sizes_that_are_none(files: dict[str, Path], size: Any) -> None:
    with pytest.raises(ValueError, match="`input_size` must be at least 1 px, but got"):
        read_scales(files["coco"], size)


# -- real annotations ------------------------------------------------------------------------


def spread(scales: ObjectScales) -> list[float]:
    quantiles = np.quantile(scales.sizes, (0.05, 0.25, 0.5, 0.75, 0.95))
    return [round(float(size), 1) for size in quantiles]


def test_trees_from_voc_files(package_files: PackageFiles) -> None:
    scales = read_scales(package_files(DEEPFOREST, "deepforest/data/*.xml"))
    assert (len(scales), scales.num_images, scales.skipped) == (951, 4, Skipped())
    counts = {one.name: one.num_objects for one in scales.summaries(())}
    assert counts == {None: 951, "Tree": 914, "Dead": 28, "Alive": 9}
    assert spread(scales) == [17.0, 29.5, 39.0, 49.4, 70.9]


def test_trees_from_a_table(package_files: PackageFiles) -> None:
    data = package_files(DEEPFOREST, "deepforest/data/OSBS_029.*")
    table = read_scales(data / "OSBS_029.csv")
    assert len(table) == 61
    assert np.array_equal(table.sizes, read_scales(data / "OSBS_029.xml").sizes)
    # The size of the image, 400 x 400 px, is not in the table.
    assert read_scales(data / "OSBS_029.csv", 200).sizes == pytest.approx(table.sizes / 2)


def test_trees_of_one_image_from_a_table(package_files: PackageFiles) -> None:
    scales = read_scales(package_files(DEEPFOREST, "deepforest/data/example.csv") / "example.csv")
    assert (len(scales), scales.num_images) == (79, 1)
    assert spread(scales) == [30.4, 39.1, 44.9, 55.8, 73.8]


def test_buildings_from_a_semantic_mask(package_files: PackageFiles) -> None:
    data = package_files(SOLARIS, "solaris/data/sample_fp_mask.tif")
    scales = read_scales(data, semantic=True)
    assert (len(scales), scales.class_names) == (151, ("255",))
    assert spread(scales) == [15.7, 20.3, 24.5, 28.7, 36.4]
    with pytest.raises(ValueError, match="1 of 1 lie in several places, such as 255 in 151"):
        read_scales(data)
    assert len(read_scales(data, semantic=False)) == 1


def test_buildings_from_coco_files(package_files: PackageFiles) -> None:
    data = package_files(SOLARIS, "solaris/data/*.json")
    one = read_scales(data / "coco_sample_2.json")
    assert (len(one), one.num_images, one.class_names) == (43, 1, ("1.0", "0.0"))
    assert spread(one) == [16.3, 29.4, 34.9, 38.9, 46.5]
    tiles = read_scales(data / "coco_sample_3.json")
    assert (len(tiles), tiles.num_images) == (89, 100)
    assert spread(tiles) == [4.2, 11.7, 19.4, 30.7, 37.4]
    with pytest.raises(ValueError, match="not a COCO file: it has no list `images`, but type"):
        read_scales(data / "gt_epsg4326.json")


def test_a_real_image_has_the_size_that_is_annotated(package_files: PackageFiles) -> None:
    data = package_files(SOLARIS, "solaris/data/coco_sample_2.json")
    images = package_files(SOLARIS, "solaris/data/sample_geotiff.tif")
    scales = read_scales(data / "coco_sample_2.json", images=images)
    assert (len(scales), scales.skipped) == (43, Skipped())


def test_a_real_file_cut_short(package_files: PackageFiles, tmp_path: Path) -> None:
    data = package_files(SOLARIS, "solaris/data/coco_sample_3.json")
    text = (data / "coco_sample_3.json").read_text()
    with pytest.raises(ValueError, match=r"cut\.json: not a JSON file"):
        read_scales(write(tmp_path / "cut.json", text[:20_000]))


def test_nuclei_from_a_16_bit_mask(package_files: PackageFiles) -> None:
    data = package_files(STARDIST, "stardist/data/images/mask*.tif")
    scales = read_scales(data / "mask2d.tif")
    assert (len(scales), scales.num_images, scales.are_masks) == (125, 1, True)
    assert spread(scales) == [11.1, 21.4, 24.9, 27.5, 29.8]
    with pytest.raises(ValueError, match=r"mask3d\.tif: a mask must have one channel"):
        read_scales(data / "mask3d.tif")
