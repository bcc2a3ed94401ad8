from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from rfsearch.basics.images import read_pixels
from rfsearch.data.datasets import ImageData
from rfsearch.data.sources import _mnist_digits, digit_scenes, image_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Images here are often alike.
COPIES = "ignore:Copies of images are in both parts"
pytestmark = pytest.mark.filterwarnings(COPIES)

# -- scenes of digits -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return digit_scenes(num_train=600, num_valid=50)


def test_digit_scenes_have_the_stated_shapes(digits: ImageData) -> None:
    assert (digits.train_images.shape, digits.train_images.dtype) == (
        (600, 1, 48, 48),
        torch.uint8,
    )
    assert (digits.valid_images.shape, digits.valid_images.dtype) == ((50, 1, 48, 48), torch.uint8)
    assert (digits.train_labels.shape, digits.train_labels.dtype) == ((600,), torch.int64)
    assert (digits.valid_labels.shape, digits.valid_labels.dtype) == ((50,), torch.int64)
    assert (digits.in_chans, digits.image_size) == (1, (48, 48))
    assert digits.class_names == tuple("0123456789")
    assert set(digits.train_labels.tolist()) == set(range(10))


def test_digits_at_18_px_have_tight_boxes_of_12_px(digits: ImageData) -> None:
    assert digits.object_sizes is not None
    assert len(digits.object_sizes) == 600
    assert np.median(digits.object_sizes) == pytest.approx(12.4, abs=0.2)
    low, high = np.quantile(digits.object_sizes, (0.05, 0.95))
    assert (low, high) == pytest.approx((10, 14), abs=0.5)


def test_digits_twice_as_large_have_boxes_twice_as_large(digits: ImageData) -> None:
    large = digit_scenes(object_size=36, num_train=600, num_valid=1)
    ratio = np.median(large.object_sizes) / np.median(digits.object_sizes)
    assert ratio == pytest.approx(2, abs=0.1)


def test_scenes_hold_as_many_fragments_as_are_asked_for(digits: ImageData) -> None:
    fewer = [digit_scenes(coverage=share, num_train=600, num_valid=50) for share in (0, 0.3)]
    alone, some, all_of_them = (
        (data.train_images > 0).float().mean() for data in (*fewer, digits)
    )
    assert alone < 0.7 * some < 0.5 * all_of_them
    rows = (fewer[0].train_images > 0).any(dim=-1).sum(dim=-1)
    assert rows.max() <= 18  # The digit is alone.


def test_the_digits_are_all_of_them_in_equal_numbers() -> None:
    images, labels = _mnist_digits()
    assert (images.shape, images.dtype) == ((5000, 28, 28), np.uint8)
    assert np.bincount(labels).tolist() == [500] * 10
    # In a random order: no class is missing from the last fifth.
    assert np.bincount(labels[4000:], minlength=10).min() > 50


def test_no_digit_is_both_in_training_and_in_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    from rfsearch.data import sources

    seen: list[NDArray[np.uint8]] = []
    make_scenes = sources.make_scenes

    def watched(objects: NDArray[np.uint8], *arguments: Any, **options: Any) -> Any:
        seen.append(objects)
        return make_scenes(objects, *arguments, **options)

    monkeypatch.setattr(sources, "make_scenes", watched)
    digit_scenes(num_train=2, num_valid=2)
    train, valid = ({digit.tobytes() for digit in objects} for objects in seen)
    assert (len(seen[0]), len(seen[1])) == (4000, 1000)
    assert not train & valid


def test_digit_scenes_depend_on_the_seed_alone() -> None:
    options = {"object_size": 8, "canvas_size": 16, "num_train": 20, "num_valid": 20}
    first, second, other = (digit_scenes(**options, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train_images, second.train_images)
    assert not torch.equal(first.train_images, other.train_images)
    assert torch.equal(first.valid_images, other.valid_images)
    assert not torch.equal(first.train_images, first.valid_images)


def test_digits_larger_than_the_canvas_are_refused() -> None:
    with pytest.raises(ValueError, match="object_size=49 and canvas_size=48"):
        digit_scenes(object_size=49)


# -- image folders ----------------------------------------------------------------------------


def picture(height: int = 8, width: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size=(height, width), dtype=np.uint8)


def write_folder(root: Path, mode: str = "L", suffix: str = "png", num_images: int = 5) -> Path:
    """Two classes with as many different images of 8x8 px."""
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for index in range(num_images):
            image = Image.fromarray(picture(seed=100 * number + index))
            image.convert(mode).save(root / name / f"{index}.{suffix}")
    return root


def test_images_and_labels_of_a_folder(tmp_path: Path) -> None:
    data = image_folder(write_folder(tmp_path), image_size=8)
    assert data.class_names == ("cat", "dog")
    assert (data.train_images.shape, data.train_images.dtype) == ((8, 1, 8, 8), torch.uint8)
    assert (data.valid_images.shape, data.valid_images.dtype) == ((2, 1, 8, 8), torch.uint8)
    assert data.train_labels.tolist() == [0] * 4 + [1] * 4
    assert data.valid_labels.tolist() == [0, 1]
    assert data.train_labels.dtype == torch.int64
    assert data.object_sizes is None
    found = torch.cat([data.train_images, data.valid_images])[:, 0].numpy()
    labels = torch.cat([data.train_labels, data.valid_labels]).tolist()
    expected = {
        (picture(seed=100 * label + index).tobytes(), label)
        for label in (0, 1)
        for index in range(5)
    }
    pairs = zip(found, labels, strict=True)
    assert {(image.tobytes(), label) for image, label in pairs} == expected


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [
        ("L", "png", 1),
        ("1", "png", 1),
        ("RGB", "png", 3),
        ("RGBA", "png", 3),
        ("P", "png", 3),
        ("CMYK", "tif", 3),
    ],
)
def test_channels_follow_the_kind_of_file(
    tmp_path: Path, mode: str, suffix: str, channels: int
) -> None:
    data = image_folder(write_folder(tmp_path, mode, suffix, num_images=2), image_size=8)
    assert data.in_chans == channels
    assert data.train_images.shape == (2, channels, 8, 8)


def test_colours_stay_in_order(tmp_path: Path) -> None:
    write_folder(tmp_path, "RGB", num_images=2)
    for path in tmp_path.glob("*/*.png"):
        Image.new("RGB", (8, 8), (10, 20, 30)).save(path)
    data = image_folder(tmp_path, image_size=8)
    assert data.train_images[0, :, 3, 3].tolist() == [10, 20, 30]


def test_one_colour_image_makes_all_of_them_rgb(tmp_path: Path) -> None:
    write_folder(tmp_path, "L")
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "cat" / "colour.png")
    data = image_folder(tmp_path, image_size=8)
    assert data.in_chans == 3
    dogs = data.train_images[data.train_labels == 1]
    assert torch.equal(dogs[:, 0], dogs[:, 1])
    assert torch.equal(dogs[:, 0], dogs[:, 2])


def test_transparency_is_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, "RGBA", num_images=2)
    for path in tmp_path.glob("*/*.png"):
        Image.new("RGBA", (8, 8), (10, 20, 30, 200)).save(path)
    data = image_folder(tmp_path, image_size=8)
    assert data.valid_images[0, :, 0, 0].tolist() == [10, 20, 30]


def test_deep_grey_keeps_its_shades(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.fromarray(ramp).save(tmp_path / name / f"{index}.png")
    data = image_folder(tmp_path, image_size=8)
    assert data.in_chans == 1
    found = data.train_images[0, 0].numpy().astype(float)
    assert found == pytest.approx(ramp / 257, abs=1)


def test_deep_images_are_scaled_as_all_sources_scale_them(tmp_path: Path) -> None:
    for name, dtype in (("cat", np.float32), ("dog", np.uint16)):
        (tmp_path / name).mkdir()
        values = np.linspace(7, 4000, 64).reshape(8, 8).astype(dtype)
        for n in range(2):
            Image.fromarray(values).save(tmp_path / name / f"{n}.tiff")
    data = image_folder(tmp_path, image_size=8)
    for image in data.train_images[:]:
        assert np.array_equal(image[0], read_pixels(tmp_path / "cat" / "0.tiff")[..., 0])
        assert len(image.unique()) == 64


@pytest.mark.parametrize(("height", "width"), [(8, 16), (16, 8)])
def test_the_middle_of_an_image_that_is_not_square_is_kept(
    tmp_path: Path, height: int, width: int
) -> None:
    image = np.zeros((height, width), np.uint8)
    top, left = (height - 8) // 2, (width - 8) // 2
    image[top : top + 8, left : left + 8] = picture()
    write_folder(tmp_path, num_images=2)
    for path in tmp_path.glob("*/*.png"):
        Image.fromarray(image).save(path)
    data = image_folder(tmp_path, image_size=8)
    assert np.array_equal(data.train_images[0, 0].numpy(), picture())


@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 30), (33, 17)])
def test_images_are_resized_to_the_stated_size(tmp_path: Path, height: int, width: int) -> None:
    write_folder(tmp_path, num_images=2)
    for path in tmp_path.glob("*/*.png"):
        Image.new("L", (width, height), 77).save(path)
    data = image_folder(tmp_path, image_size=12)
    assert data.image_size == (12, 12)
    assert (data.train_images == 77).all()


def test_other_files_are_ignored(tmp_path: Path) -> None:
    write_folder(tmp_path, num_images=3)
    (tmp_path / "README.md").write_text("Cats and dogs.")
    (tmp_path / "cat" / "notes.txt").write_text("A cat.")
    data = image_folder(tmp_path, image_size=8)
    assert len(data.train_images) + len(data.valid_images) == 6


# -- the split --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_images", "valid_share", "num_valid"),
    [(10, 0.2, 2), (10, 0.5, 5), (2, 0.2, 1), (3, 0.01, 1), (7, 0.3, 2)],
)
def test_every_class_has_the_same_share_in_validation(
    tmp_path: Path, num_images: int, valid_share: float, num_valid: int
) -> None:
    write_folder(tmp_path, num_images=num_images)
    data = image_folder(tmp_path, image_size=8, valid_share=valid_share)
    assert data.valid_labels.tolist() == [0] * num_valid + [1] * num_valid
    rest = num_images - num_valid
    assert data.train_labels.tolist() == [0] * rest + [1] * rest


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    write_folder(tmp_path, num_images=20)
    first, second, other = (image_folder(tmp_path, image_size=8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.valid_images, second.valid_images)
    assert not torch.equal(first.valid_images, other.valid_images)


def test_no_image_is_both_in_training_and_in_validation(tmp_path: Path) -> None:
    data = image_folder(write_folder(tmp_path, num_images=20), image_size=8)
    train = {image.numpy().tobytes() for image in data.train_images}
    valid = {image.numpy().tobytes() for image in data.valid_images}
    assert (len(train), len(valid)) == (32, 8)
    assert not train & valid


# -- mistakes ---------------------------------------------------------------------------------


def refusal(root: Path, **options: Any) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(ValueError, match=r"\S") as error:
        image_folder(root, **{"image_size": 8, **options})
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "cat" / "2.png").write_text("not an image")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'cat' / '2.png'}: not a readable image (")


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    broken = tmp_path / "dog" / "0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert refusal(tmp_path).startswith(f"{broken}: not a readable image (")


def test_an_empty_image_file_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "cat" / "0.png").write_bytes(b"")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'cat' / '0.png'}: not a readable image (")


def test_a_class_with_one_image_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "eel").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "eel" / "0.png")
    assert refusal(tmp_path) == "Each class must have 2 images or more, but 'eel' has 1."


def test_a_class_without_images_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "eel").mkdir()
    line = refusal(tmp_path)
    assert line.startswith(f"{tmp_path}: not a folder of classes with images (")
    assert "eel" in line


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path}: not a folder of classes with images (")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    assert refusal(missing).startswith(f"{missing}: not a folder of classes with images (")


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "images.zip"
    file.write_bytes(b"PK")
    assert refusal(file).startswith(f"{file}: not a folder of classes with images (")


@pytest.mark.parametrize("valid_share", [0.0, 1.0, -0.1])
def test_an_impossible_share_is_refused(tmp_path: Path, valid_share: float) -> None:
    line = refusal(tmp_path, valid_share=valid_share)
    assert line == f"`0 < valid_share < 1` must hold, but got {valid_share=}."


# -- folders that are split -------------------------------------------------------------------


@pytest.mark.parametrize("valid", ["val", "valid", "validation", "Val"])
def test_a_folder_that_is_split_is_taken_as_it_is(tmp_path: Path, valid: str) -> None:
    write_folder(tmp_path / "train", num_images=4)
    write_folder(tmp_path / valid, num_images=1)
    data = image_folder(tmp_path, image_size=8, valid_share=0.9, seed=5)
    assert data.class_names == ("cat", "dog")
    assert data.train_labels.tolist() == [0] * 4 + [1] * 4
    assert data.valid_labels.tolist() == [0, 1]
    assert torch.equal(data.valid_images[1, 0], torch.from_numpy(picture(seed=100)))


def test_what_is_in_neither_part_is_left_out_with_a_warning(tmp_path: Path) -> None:
    for part in ("train", "val", "test", "more"):
        write_folder(tmp_path / part, num_images=2)
    with pytest.warns(UserWarning, match=r"is split into train and val; left out: more, test\.$"):
        data = image_folder(tmp_path, image_size=8)
    assert len(data.train_images) + len(data.valid_images) == 8


def test_without_a_part_for_validation_the_one_for_training_is_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", num_images=10)
    write_folder(tmp_path / "test", num_images=3)
    with pytest.warns(UserWarning, match=r"left out: test\.$"):
        data = image_folder(tmp_path, image_size=8)
    alone = image_folder(tmp_path / "train", image_size=8)
    assert len(data.valid_images) == 4
    assert torch.equal(data.valid_images, alone.valid_images)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_folder(tmp_path, num_images=2)
    (tmp_path / "cat").rename(tmp_path / "train")
    assert image_folder(tmp_path, image_size=8).class_names == ("dog", "train")


def test_parts_with_other_classes_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "val")
    (tmp_path / "val" / "dog").rename(tmp_path / "val" / "dogs")
    assert refusal(tmp_path) == (
        f"{tmp_path}: training and validation images must have the same classes, but 'dog' is in "
        "one part only."
    )


def test_parts_without_classes_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / part / "0.png")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'train'}: not a folder of classes with ima")


def test_what_is_hidden_does_not_count(tmp_path: Path) -> None:
    expected = image_folder(write_folder(tmp_path / ".cache" / "images"), image_size=8)
    root = tmp_path / ".cache" / "images"
    for folder in (root / ".ipynb_checkpoints", root / "cat" / ".ipynb_checkpoints"):
        folder.mkdir()
        Image.new("L", (8, 8)).save(folder / "0-checkpoint.png")
    (root / "dog" / "._0.png").write_bytes(b"\0\5\26\7")
    found = image_folder(root, image_size=8)
    assert found.class_names == ("cat", "dog")
    assert torch.equal(found.train_images, expected.train_images)


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    shutil.rmtree(tmp_path / "dog")
    assert refusal(tmp_path) == f"{tmp_path}: must hold 2 classes or more, but 'cat' is alone."


def test_size_and_channels_can_be_those_of_a_network(tmp_path: Path) -> None:
    data = image_folder(write_folder(tmp_path), image_size=(4, 6), channels=3)
    assert data.train_images.shape == (8, 3, 4, 6)
    write_folder(tmp_path / "colour", "RGB")
    assert image_folder(tmp_path / "colour", image_size=8, channels=1).in_chans == 1


def test_the_identity_tells_other_images_and_splits_apart(tmp_path: Path) -> None:
    root = write_folder(tmp_path, num_images=20)
    of = {
        image_folder(root, image_size=8, **options).identity
        for options in ({}, {"seed": 1}, {"valid_share": 0.3}, {"channels": 3})
    }
    assert len(of) == 4
    for in_memory in (True, False):
        assert image_folder(root, image_size=8, in_memory=in_memory).identity in of


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_an_image_are_in_one_part(tmp_path: Path, seed: int) -> None:
    for label, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for number in range(12):  # Three of each.
            value = 100 * label + 10 * (number // 3)
            Image.new("L", (8, 8), value).save(tmp_path / name / f"{number}.png")
    data = image_folder(tmp_path, image_size=8, seed=seed)
    train, valid = (set(one.unique().tolist()) for one in (data.train_images, data.valid_images))
    assert train | valid == {100 * label + 10 * one for label in range(2) for one in range(4)}
    assert not train & valid
    assert {value >= 100 for value in valid} == {True, False}


@pytest.mark.filterwarnings("default:Copies of images")
def test_copies_that_cannot_be_in_one_part_are_told_of(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("L", (8, 8), ord(name)).save(tmp_path / name / f"{number}.png")
    with pytest.warns(UserWarning, match="Copies of images are in both parts"):
        assert len(image_folder(tmp_path, image_size=8).valid_images) == 2
