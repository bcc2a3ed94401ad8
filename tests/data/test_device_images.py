from __future__ import annotations

import pytest
import torch
from helpers import batch_of
from torch import nn

from rfsearch.data.device_images import DeviceImages, Normalizer, network_format

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
    assert torch.equal(torch.cat([part.images for part in parts]), normalize(images))
    assert torch.equal(torch.cat([images[part.place] for part in parts]), images)


def test_chosen_images_are_taken() -> None:
    images = random_images(10)
    normalize = Normalizer.of(images)
    taken = DeviceImages(images, normalize, CPU).of(batch_of(7, 2))
    assert torch.equal(taken, normalize(images)[[7, 2]])


@pytest.mark.parametrize(
    ("layer", "on_cpu"),
    [
        (nn.Conv2d(2, 4, 3, stride=2), torch.channels_last),
        (nn.Conv2d(2, 4, 1), torch.channels_last),
        (nn.Conv2d(2, 4, 1, stride=2), torch.contiguous_format),
        (nn.Conv2d(2, 4, 1, stride=(1, 2)), torch.contiguous_format),
    ],
)
def test_networks_whose_training_would_crash_do_without_channels_last(
    layer: nn.Module, on_cpu: torch.memory_format
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(layer))
    assert network_format(model, CPU) == on_cpu
    assert network_format(model, torch.device("cuda")) == torch.channels_last


@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_the_strides_of_their_format(channels: int) -> None:
    # As files are read, one pixel after the other: of one channel both formats look alike.
    images = random_images(4)[:, :channels].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    normalize = Normalizer.of(images)
    data = DeviceImages(images, normalize, CPU)
    (part,) = data.batches(4)
    for ready in (part.images, data.of(batch_of(0, 1, 2, 3))):
        assert ready.stride() == (channels * 36, 36, 6, 1)
        assert torch.equal(ready, normalize(images))
