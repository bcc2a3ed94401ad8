from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rfsearch.measure.read import layer_map, output_map, reader

IMAGES = torch.randn(2, 3, 8, 8)


class Several(nn.Module):
    """Returns its maps in a list, or only one of them in a mapping."""

    def __init__(self, *, one: bool = False) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.unused = nn.Conv2d(3, 3, 1)
        self.one = one

    def forward(self, images: Tensor) -> list[Tensor] | dict[str, Tensor]:
        fine = self.fine(images)
        coarse = self.coarse(fine)
        return {"C3": coarse} if self.one else [fine, coarse]


def test_maps_of_a_list_are_numbered() -> None:
    assert output_map(Several(), IMAGES, "0").shape == (2, 4, 6, 6)
    assert output_map(Several(), IMAGES, "1").shape == (2, 5, 4, 4)


@pytest.mark.parametrize("level", [None, "2"])
def test_level_that_a_list_has_not(level: str | None) -> None:
    with pytest.raises(ValueError, match=rf"`level` must be one of 0, 1, but got {level!r}\."):
        output_map(Several(), IMAGES, level)


def test_single_level_needs_no_name() -> None:
    assert output_map(Several(one=True), IMAGES).shape == (2, 5, 4, 4)


def test_scores_are_no_map() -> None:
    with pytest.raises(
        ValueError, match=r"must be a map .* but got \(2, 192\); remove its pooling"
    ):
        output_map(nn.Flatten(), IMAGES)


def test_layer_stops_the_model() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> Tensor:
            first: Tensor = self.first(self.first(images)[:, :3])
            raise AssertionError(first.shape)

    model = Failing()
    # The first of two runs, and nothing after it.
    assert layer_map(model, IMAGES, "first").shape == (2, 4, 6, 6)
    assert not model.first._forward_hooks


def test_layer_that_does_not_run() -> None:
    with pytest.raises(ValueError, match=r"used by the model, but `unused` is never called\.$"):
        layer_map(Several(), IMAGES, "unused")


def test_layer_that_returns_several_maps() -> None:
    model = nn.Sequential(Several())
    with pytest.raises(ValueError, match=r"must return one map, but `0` returns a list\.$"):
        layer_map(model, IMAGES, "0")


def test_hook_is_removed_after_a_failure() -> None:
    model = Several()
    with pytest.raises(RuntimeError):
        layer_map(model, torch.zeros(2, 1, 8, 8), "coarse")
    assert not model.coarse._forward_hooks


def test_reader_of_a_layer() -> None:
    read = reader(Several(), "coarse", None)
    assert read(Several(), IMAGES).shape == (2, 5, 4, 4)


def test_unknown_layer() -> None:
    match = r"name of one of the model's, but got 'course'; the nearest are coarse\.$"
    with pytest.raises(ValueError, match=match):
        reader(Several(), "course", None)


def test_layer_like_no_other() -> None:
    with pytest.raises(ValueError, match=r"'0000'; its layers begin with fine, coarse, unused\.$"):
        reader(Several(), "0000", None)


def test_layer_and_level() -> None:
    with pytest.raises(ValueError, match="must not be given both, but got 'fine' and '0'"):
        reader(Several(), "fine", "0")
