"""Networks built from timm's parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from timm.layers import ClassifierHead
from torch import nn

from rfsearch.basics.sides import Sides, times
from rfsearch.network._builders import build_stage, build_stem, initialise

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.field.receptive_field import ReceptiveField
    from rfsearch.network.architecture import Architecture


class SearchedNetwork(nn.Module):
    """A classifier with timm's habits: `forward_features`, `forward_head`, `feature_info`.

    Attributes:
        architecture: What it was built from.
        in_chans: Channels of the images.
        num_classes: Outputs of the classifier; 0 for none.
        num_features: Channels of each output map.
        feature_info: For each stage, `num_chs`, `reduction` (px; one number for each axis where
            they differ) and `module`.
    """

    def __init__(self, architecture: Architecture, in_chans: int, num_classes: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.num_features = architecture.num_features
        self.feature_info: list[dict[str, Any]] = []
        axes = architecture.num_axes
        self.stem = build_stem(architecture.stem, in_chans, axes)
        self.stages = nn.Sequential()
        channels = architecture.stem.width
        reduction: Sides = architecture.stem.reduction
        for number, stage in enumerate(architecture.stages):
            self.stages.append(build_stage(stage, channels, axes))
            channels = stage.width
            reduction = times(reduction, stage.stride)
            self.feature_info.append(
                {"num_chs": channels, "reduction": reduction, "module": f"stages.{number}"}
            )
        self.neck = _build_neck(architecture)
        self.head = ClassifierHead(self.num_features, num_classes)
        # Blocks of the user's own keep the weights that they begin with.
        ours = [
            built
            for built, stage in zip(self.stages, architecture.stages, strict=True)
            if stage.kind.build is None
        ]
        for part in (self.stem, *ours, self.neck, self.head):
            if part is not None:
                part.apply(initialise)

    def receptive_fields(self, axis: str | None = None) -> dict[str, ReceptiveField]:
        """Theoretical receptive field of each output map, in px.

        Args:
            axis: Name of the axis, as for `Architecture.receptive_field`.

        Raises:
            ValueError: As for that.
        """
        return self.architecture.receptive_fields(axis)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the input's axes."""
        return self.architecture.axes

    @property
    def axes_differ(self) -> bool:
        """Whether a map sees along one axis what it does not see along another."""
        return self.architecture.axes_differ

    @property
    def input_multiple(self) -> int:
        """What height and width of an image must be a multiple of, in px."""
        return self.architecture.input_multiple

    @property
    def upsamples(self) -> bool:
        """Whether a neck joins maps of different sizes, so that units of a map see differently."""
        return self.input_multiple > 1

    def forward_features(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """The output map `(batch, num_features, height / stride, width / stride)`.

        Where there are several it is a dictionary of them by level, the finest first.

        Raises:
            ValueError: If the size of the images is no multiple of the architecture's
                `input_multiple`.
        """
        if self.upsamples:
            self.architecture.check_input_size(tuple(x.shape[2:]))
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        outputs: Tensor | dict[str, Tensor] = self.neck(maps) if self.neck else maps[-1]
        return outputs

    def forward_head(self, x: Tensor | Mapping[str, Tensor], pre_logits: bool = False) -> Tensor:
        """Class scores `(batch, num_classes)` of a map, or its average `(batch, num_features)`.

        Of several maps it looks at the last, the coarsest.
        """
        last = list(x.values())[-1] if isinstance(x, Mapping) else x
        if self.architecture.num_axes != 2:
            last = last.flatten(2).unsqueeze(-1)  # timm's head averages images.
        scores: Tensor = self.head(last, pre_logits=pre_logits)
        return scores

    def forward(self, x: Tensor) -> Tensor:
        """Class scores `(batch, num_classes)` of images `(batch, in_chans, height, width)`.

        Sequences are `(batch, in_chans, time)`.
        """
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The linear layer of the head."""
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the linear layer of the head."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)


def build_model(
    architecture: Architecture, in_chans: int = 3, num_classes: int = 1000
) -> SearchedNetwork:
    """Build the network of an architecture, with random weights.

    Args:
        architecture: What to build.
        in_chans: Channels of the images.
        num_classes: Outputs of the classifier; 0 leaves the pooled features.

    Raises:
        ValueError: If `in_chans < 1` or `num_classes < 0`.
    """
    if in_chans < 1 or num_classes < 0:
        raise ValueError(
            "`in_chans >= 1` and `num_classes >= 0` must hold, "
            f"but got {in_chans=} and {num_classes=}."
        )
    return SearchedNetwork(architecture, in_chans, num_classes)


def _build_neck(architecture: Architecture) -> nn.Module | None:
    if architecture.neck is None:
        return None
    from rfsearch.network._model_necks import build_neck  # Only these networks need its libraries.

    return build_neck(architecture.neck, architecture.body().channels)
