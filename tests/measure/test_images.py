from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rfsearch.measure._images import gather
from rfsearch.models.resolve import resolve_model

MODEL = nn.Conv2d(3, 4, 3)


def test_noise_is_the_same_in_any_batches() -> None:
    noise = gather(resolve_model(MODEL, (5, 7)), None, 10, seed=3)
    whole = torch.cat(list(noise.batches()))
    assert whole.shape == (10, 3, 5, 7)
    assert [len(batch) for batch in noise.batches(4)] == [4, 4, 2]
    assert torch.equal(torch.cat(list(noise.batches(4))), whole)
    assert not torch.equal(
        torch.cat(list(gather(resolve_model(MODEL, (5, 7)), None, 10, seed=4).batches())), whole
    )
    assert float(whole.std()) == pytest.approx(1, abs=0.05)


def test_large_images_pass_one_by_one() -> None:
    images = gather(resolve_model(MODEL, (1024, 1024)), torch.zeros(3, 3, 1024, 1024), 1, seed=0)
    assert [len(batch) for batch in images.batches(8)] == [1, 1, 1]


@pytest.mark.parametrize(("side", "count"), [(256, 8), (512, 8), (64, 20)])
def test_images_that_statistics_are_taken_from(side: int, count: int) -> None:
    given = torch.zeros(1, 1, 1, 1).expand(20, 3, side, side)
    images = gather(resolve_model(MODEL, (side, side)), given, 1, seed=0)
    assert sum(len(batch) for batch in images.to_calibrate()) == count


@pytest.mark.parametrize("images", [torch.zeros(0, 3, 5, 7), torch.zeros(3, 5, 7)])
def test_tensor_that_is_no_batch(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"`images` must be \(images, channels, height, width\)"):
        gather(resolve_model(MODEL, (5, 7)), images, 1, seed=0)


def test_no_images() -> None:
    with pytest.raises(
        ValueError, match=r"`1 <= num_images <= 10,000,000` must hold, but got 0\.$"
    ):
        gather(resolve_model(MODEL, (5, 7)), None, 0, seed=0)


class Stating(nn.Conv2d):
    """A model that says how its images are normalised, as timm's do."""

    pretrained_cfg = {"mean": (0.5, 0.25, 0.0), "std": (0.5, 0.25, 2.0)}  # noqa: RUF012


def test_folder_is_normalised_as_the_model_states(tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 7, 3), (255, 255, 0), np.uint8)).save(tmp_path / "a.png")
    images = gather(resolve_model(Stating(3, 4, 3), (5, 7)), tmp_path, 9, seed=0)
    (batch,) = images.batches()
    assert batch.shape == (1, 3, 5, 7)
    assert batch[0, :, 2, 2].tolist() == [1, 3, 0]


def test_folder_is_normalised_by_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        values = rng.integers(100, 200, size=(5, 7, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    (batch,) = gather(resolve_model(MODEL, (5, 7)), str(tmp_path), 3, seed=0).batches()
    assert batch.shape == (3, 3, 5, 7)
    np.testing.assert_allclose(batch.mean(dim=(0, 2, 3)), [0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(batch.std(dim=(0, 2, 3)), [1, 1, 1], rtol=1e-5)
