"""Models with several inputs, of which one is followed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rfsearch as rfs


class Matching(nn.Module):
    """A template of audio against an image, or what else is joined from two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 4, 5, padding=2)
        self.mask = nn.Conv2d(1, 4, 3, padding=1, stride=2)
        self.joined = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        mask = nn.functional.interpolate(self.mask(mask), scale_factor=2)
        return self.joined(self.image(image) * mask)


SHAPES = {"image": (3, 32, 48), "mask": (1, 32, 48)}


@pytest.mark.parametrize(("shapes", "keys"), [(SHAPES, ("image", "mask")), (None, (0, 1))])
def test_either_input_is_followed(shapes: Any, keys: tuple[Any, Any]) -> None:
    shapes, model = shapes or tuple(SHAPES.values()), Matching()
    image, mask = (rfs.trace_receptive_field(model, shapes, follow=key) for key in keys)
    assert image.output.height.size == 5 + 2
    assert mask.output.height.size == 5  # Two neighbours at a stride of 2.
    assert image.input_size == (32, 48)
    assert not image.global_layers
    erf = rfs.measure_erf(model, shapes, follow=keys[0], num_images=4)
    assert erf.theoretical_size == 7
    assert erf.map.shape == (32, 48)
    with pytest.raises(ValueError, match="it multiplies by a constant that is not known"):
        _ = rfs.expected_erf(model, shapes, follow=keys[0]).size
    pointwise = rfs.expected_erf(model, shapes, follow=keys[0], unknown="pointwise")
    assert pointwise.theoretical_size == 7
    # The other input does not fit strips of other sizes.
    with pytest.warns(UserWarning, match="Gridding was not checked"):
        assert isinstance(rfs.diagnose(model, None, shapes, follow=keys[0]), tuple)


def test_inputs_of_other_axes_and_a_forward_of_ones_own() -> None:
    class Caption(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sound, self.image = nn.Conv1d(1, 4, 9), nn.Conv2d(3, 4, 3)

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            weight = self.image(inputs["image"]).mean((2, 3)).unsqueeze(-1)
            return self.sound(inputs["sound"]) * weight

    traced = rfs.trace_receptive_field(
        Caption(),
        {"sound": (1, 256), "image": (3, 16, 16)},
        follow="sound",
        forward=lambda module, inputs: module(inputs),
    )
    assert traced.output.axes["time"].size == 9


@pytest.mark.parametrize(
    ("shapes", "follow", "message"),
    [
        (SHAPES, None, "`follow` must name one of the inputs 'image', 'mask', but got None"),
        (SHAPES, "img", "`follow` must name one of the inputs 'image', 'mask', but got 'img'"),
        (((3, 8, 8), (1, 8, 8)), 2, "`follow` must name one of the inputs 0, 1, but got 2"),
        (32, 0, "`follow` needs the shapes of several inputs, but got 0"),
        ({"image": 32}, "image", r"shapes \(channels, \*sides\), but got 32 for 'image'"),
        ({"image": (3,)}, "image", r"shapes \(channels, \*sides\), but got \(3,\) for 'image'"),
    ],
)
def test_what_is_no_several_inputs(shapes: Any, follow: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        rfs.trace_receptive_field(Matching(), shapes, follow=follow)
    assert "\n" not in str(caught.value)


def test_the_model_is_left_as_it_was() -> None:
    model = Matching()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rfs.measure_erf(model, SHAPES, follow="mask", num_images=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
