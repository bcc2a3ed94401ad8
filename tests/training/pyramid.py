"""A network with two output maps, as a feature pyramid has them."""

from __future__ import annotations

import torch
from torch import nn

from rfsearch.field.receptive_field import ReceptiveField, window


class FakePyramid(nn.Module):
    """Two convolutions of the same width, one after the other: maps of stride 2 and 4."""

    num_features = 16
    input_multiple = 1
    axes = ("height", "width")

    def __init__(self, in_chans: int = 1) -> None:
        super().__init__()
        self.fine = nn.Conv2d(in_chans, self.num_features, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(self.num_features, self.num_features, 3, stride=2, padding=1)

    def receptive_fields(self, axis: str | None = None) -> dict[str, ReceptiveField]:
        first = window(3, stride=2)
        return {"P1": first, "P2": first.then(window(3, stride=2))}

    def forward_features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        fine = self.fine(images).relu()
        return {"P1": fine, "P2": self.coarse(fine).relu()}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_features(images)["P2"].mean(dim=(2, 3))
