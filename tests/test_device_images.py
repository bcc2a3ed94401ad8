from __future__ import annotations

import pytest
import torch

from rfsearch.device_images import DeviceImages, Normalizer

CPU = torch.device("cpu")


def random_images(number: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (number, 3, 6, 6), generator=generator, dtype=torch.uint8)


def test_normalised_images_have_mean_0_and_deviation_1_per_channel() -> None:
    images = random_images()
    images[:, 1] = images[:, 1] // 4 + 100
    normalised = Normalizer.of(images)(images)
    assert normalised.dtype == torch.float32
    for channel in normalised.unbind(1):
        assert float(channel.mean()) == pytest.approx(0, abs=1e-5)
        assert float(channel.std()) == pytest.approx(1, abs=1e-5)


def test_constant_images_are_normalised_to_zero() -> None:
    images = torch.full((4, 1, 3, 3), 77, dtype=torch.uint8)
    assert torch.equal(Normalizer.of(images)(images), torch.zeros(4, 1, 3, 3))


@pytest.mark.parametrize("size", [1, 7, 10, 64])
def test_batches_are_all_images_in_order(size: int) -> None:
    images = random_images(10)
    normalize = Normalizer.of(images)
    parts = list(DeviceImages(images, normalize, CPU).batches(size))
    assert torch.equal(torch.cat([batch for _, batch in parts]), normalize(images))
    assert torch.equal(torch.cat([images[part] for part, _ in parts]), images)


def test_chosen_images_are_taken() -> None:
    images = random_images(10)
    normalize = Normalizer.of(images)
    taken = DeviceImages(images, normalize, CPU).take(torch.tensor([7, 2]))
    assert torch.equal(taken, normalize(images)[[7, 2]])
