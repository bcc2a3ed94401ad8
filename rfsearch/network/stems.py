"""The first layers of a network, as data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from rfsearch.basics.sides import Sides, Whole, as_text, sides, times
from rfsearch.basics.validation import FrozenData
from rfsearch.field.expression import Chain, LayerNorm, Node, Pooling, Relu
from rfsearch.network.block_parts import BLUR_SIZE, conv_norm, patches, window_text

StemKind = Literal["conv", "deep", "tiered", "quad", "patch"]
StemPool = Literal["none", "max", "avg", "conv", "blur"]
Padding = Literal["centred", "causal"]
Stride = Annotated[Sides, Whole(1, 8)]
Width = Annotated[int, Field(ge=1, le=8192)]
MAX_KERNEL_SIZE = 101

#: Widths of the convolutions, in eighths of the stem's, as in `timm.models.byobnet`.
_EIGHTHS: dict[StemKind, tuple[int, ...]] = {
    "conv": (8,),
    "deep": (4, 4, 8),
    "tiered": (3, 4, 8),
    "quad": (1, 2, 4, 8),
}
POOL_SIZE, POOL_STRIDE = 3, 2


def check_odd(kernel_size: Sides) -> Sides:
    """Refuse a window without a middle."""
    if any(taps % 2 == 0 for taps in sides(kernel_size, 1)):
        raise ValueError(
            f"must be odd, so that the window has a middle, but got {as_text(kernel_size)}."
        )
    return kernel_size


class Stem(FrozenData):
    """First convolutions, each with a batch normalisation and a rectifier, and a pooling.

    Kernel size and stride are one number, or one for each axis, as `(1, 7)`.

    Attributes:
        kind: `"conv"` is one convolution; `"deep"` are three, the first two of half the width, as
            in ResNet-D, `"tiered"` three of growing width (ResNet-T) and `"quad"` four (NFNet);
            `"patch"` cuts the image into patches and normalises their channels (ConvNeXt, ViT).
        kernel_size: Side of the convolutions. Of patches it is the stride.
        stride: Stride of the first convolution.
        width: Output channels.
        pool: What halves the resolution behind them: `"max"` is the 3x3 max-pooling of ResNet,
            `"avg"` the average, `"conv"` a 3x3 convolution in its place, and `"blur"` a
            max-pooling with stride 1 and a blur. Patches have none.
        padding: `"centred"`, or `"causal"`: where the one axis is time, all of it lies before the
            sequence, so that a unit sees nothing that comes after it.
    """

    kind: StemKind = "conv"
    kernel_size: Annotated[Sides, Whole(1, MAX_KERNEL_SIZE)]
    stride: Stride
    width: Width
    pool: StemPool = "none"
    padding: Padding = "centred"

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.kind != "patch":
            try:
                check_odd(self.kernel_size)
            except ValueError as error:
                raise ValueError(f"`kernel_size` {error}") from None
        elif self.kernel_size != self.stride or self.pool != "none":
            raise ValueError(
                "`kernel_size` must be the stride and `pool` 'none' where `kind` is 'patch', but "
                f"got {as_text(self.kernel_size)}, {as_text(self.stride)} and {self.pool!r}."
            )
        if self.padding == "causal" and (self.kind == "patch" or self.pool != "none"):
            raise ValueError(
                "`kind` must not be 'patch' and `pool` must be 'none' where `padding` is "
                f"'causal', but got {self.kind!r} and {self.pool!r}."
            )
        return self

    @model_serializer(mode="wrap")
    def _without_the_common_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that a stem is written as it was before there were kinds and paddings.
        values: dict[str, Any] = handler(self)
        common = {"kind"} if self.kind == "conv" else set()
        common |= {"padding"} if self.padding == "centred" else set()
        return {name: value for name, value in values.items() if name not in common}

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of each convolution."""
        eighths = _EIGHTHS.get(self.kind, (8,))
        return tuple(max(1, share * self.width // 8) for share in eighths)

    @property
    def reduction(self) -> Sides:
        """By how much it reduces the resolution."""
        return times(self.stride, POOL_STRIDE if self.pool != "none" else 1)

    @property
    def summary(self) -> tuple[str, ...]:
        """The stem in a short line or two."""
        line = f"{window_text(self.kernel_size)}, {self.width} ch"
        return (line,) if self.pool == "none" else (line, f"{self.pool} pooling")

    def lower(self, in_channels: int) -> Chain:
        """The stem's expression."""
        return Chain((*self.convolutions(in_channels), *self.pooling()))

    def convolutions(self, in_channels: int) -> tuple[Node, ...]:
        """The part before the pooling."""
        if self.kind == "patch":
            return (patches(in_channels, self.width, self.stride), LayerNorm(self.width))
        nodes: list[Node] = []
        stride: Sides = self.stride
        for width in self.widths:
            causal = self.padding == "causal"
            convolution = conv_norm(in_channels, width, self.kernel_size, stride, causal=causal)
            nodes += (*convolution, Relu())
            in_channels, stride = width, 1
        return tuple(nodes)

    def pooling(self) -> tuple[Node, ...]:
        """What halves the resolution; nothing where there is no pooling."""
        if self.pool == "none":
            return ()
        if self.pool == "conv":
            return (*conv_norm(self.width, self.width, POOL_SIZE, POOL_STRIDE), Relu())
        if self.pool == "blur":
            blur = Pooling("blur", BLUR_SIZE, POOL_STRIDE, BLUR_SIZE // 2, self.width)
            return (Pooling("max", POOL_SIZE, 1, POOL_SIZE // 2), blur)
        return (Pooling(self.pool, POOL_SIZE, POOL_STRIDE, POOL_SIZE // 2),)
