"""The kinds of neck, as data and as expressions.

`rfsearch.network._model_necks` holds the matching builder of each; property tests say that
receptive field, expected ERF, parameters and FLOPs of the two agree.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rfsearch.field.cost import Cost, FeatureMap, cost
from rfsearch.field.expression import Chain, Concat, Convolution, ImageLevel, Node, Relu, Sum
from rfsearch.field.saved_activations import saved_values
from rfsearch.network.block_parts import conv_norm
from rfsearch.network.neck import Body, Neck, enlarged

Rate = Annotated[int, Field(ge=1, le=64)]
Channels = Annotated[int, Field(ge=1, le=8192)]
Rates = Annotated[tuple[Rate, ...], Field(strict=False, min_length=1, max_length=8)]
Widths = Annotated[tuple[Channels, ...], Field(strict=False, min_length=1, max_length=16)]
NumLevels = Annotated[int, Field(ge=2, le=16)]

#: Last strides between the ends of what units of finer maps and those of the last stage see.
_APART = 5
#: The map itself.
IDENTITY = Chain(())


class ASPP(Neck):
    """Atrous spatial pyramid pooling behind the last stage (DeepLabv3).

    Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017: a 1x1 and
    several dilated 3x3 convolutions side by side, and the mean over the whole map, joined and
    mixed. The map keeps its name, such as `C5`.

    Attributes:
        rates: Dilations of the 3x3 convolutions.
        width: Channels of each branch, and of the output.
        image_pooling: Whether the mean over the map is among the branches. It is global: fields
            are local, without it.
    """

    upsamples: ClassVar[bool] = False

    kind: Literal["aspp"] = "aspp"
    rates: Rates
    width: Channels
    image_pooling: bool = False

    @property
    def global_part(self) -> str | None:
        """The mean over the map."""
        return "image pooling" if self.image_pooling else None

    @property
    def num_features(self) -> int:
        """Channels of the output map."""
        return self.width

    def levels(self, last: int) -> tuple[str, ...]:
        """That of the last stage."""
        return (f"C{last}",)

    def follow(self, in_channels: int) -> tuple[Node, ...]:
        """The branches, joined and mixed."""
        width = self.width
        dilated = [conv_norm(in_channels, width, 3, dilation=rate) for rate in self.rates]
        branches: list[Node] = [
            Chain((*convolution, Relu()))
            for convolution in (conv_norm(in_channels, width, 1), *dilated)
        ]
        if self.image_pooling:
            branches.append(ImageLevel(branches[0]))
        joined = Concat(tuple(branches), (width,) * len(branches))
        return (Chain((joined, *conv_norm(len(branches) * width, width, 1), Relu())),)

    def lower(self, body: Body) -> dict[str, Chain]:
        """The backbone and the branches."""
        return {f"C{body.last}": Chain((*body.parts, *self.follow(body.channels[-1])))}

    def saved_values(self, body: Body, size: FeatureMap, in_chans: int) -> float:
        """The factors of torchvision's dropout behind the mixing are kept too."""
        output = cost(Chain(body.parts), size).output
        return super().saved_values(body, size, in_chans) + output.area * self.width


class UNet(Neck):
    """A decoder with skips: Ronneberger et al., "U-Net", MICCAI 2015.

    Each of its blocks brings the map before to the size of the next finer map of the backbone
    (nearest neighbour), joins it with that and applies two 3x3 convolutions. Four blocks behind
    four stages end at the size of the stem's map, `C1`; the output is called `D1` there.

    Attributes:
        widths: Output channels of each block, the coarsest first.
    """

    kind: Literal["unet"] = "unet"
    widths: Widths

    @property
    def most_growth(self) -> int:
        """Two 3x3 convolutions in each block."""
        return 4 * len(self.widths) + _APART

    @property
    def num_features(self) -> int:
        """Channels of the finest block."""
        return self.widths[-1]

    @property
    def fewest_stages(self) -> int:
        """One for each block."""
        return len(self.widths)

    def levels(self, last: int) -> tuple[str, ...]:
        """The output of the finest block, by the number of the map whose size it has."""
        return (f"D{last - len(self.widths)}",)

    def lower(self, body: Body) -> dict[str, Chain]:
        """The backbone and all blocks."""
        finest = body.last - len(self.widths)
        return {f"D{finest}": Chain((*body.until(finest), *self._decoded(body, finest)))}

    def steps(self, body: Body) -> dict[str, Chain]:
        """All blocks."""
        numbers = range(body.last - 1, body.last - len(self.widths) - 1, -1)
        return {f"D{n}": Chain((*body.until(n), *self._decoded(body, n))) for n in numbers}

    def _decoded(self, body: Body, number: int) -> tuple[Node, ...]:
        if number == body.last:
            return ()
        part = body.parts[number]
        up = enlarged("nearest", body.factor(number, number + 1))
        below = Chain((part, *self._decoded(body, number + 1), *up))
        width = self._width(body, number)
        channels = (self._width(body, number + 1), body.map_channels(number))
        return (
            Concat((below, IDENTITY), channels),
            *conv_norm(sum(channels), width, 3),
            Relu(),
            *conv_norm(width, width, 3),
            Relu(),
        )

    def _width(self, body: Body, number: int) -> int:
        """Channels of a block's output; the first block gets the last map."""
        if number == body.last:
            return body.map_channels(number)
        return self.widths[body.last - 1 - number]


class FPN(Neck):
    """A feature pyramid: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.

    From the last map down, 1x1 convolutions of the backbone's maps are added to what comes from
    the coarser level (nearest neighbour); a 3x3 convolution of each sum is an output. There is
    neither normalisation nor activation. The levels behind four stages are `P2` to `P5`.

    Attributes:
        width: Channels of each level.
        num_levels: How many output maps there are, from the last stage's on.
    """

    kind: Literal["fpn"] = "fpn"
    width: Channels
    num_levels: NumLevels

    @property
    def most_growth(self) -> int:
        """One 3x3 convolution."""
        return 2 + _APART

    @property
    def num_features(self) -> int:
        """Channels of each level."""
        return self.width

    @property
    def fewest_stages(self) -> int:
        """One for each level."""
        return self.num_levels

    def numbers(self, last: int) -> range:
        """Numbers of the maps whose sizes the levels have, the finest first."""
        return range(last - self.num_levels + 1, last + 1)

    def levels(self, last: int) -> tuple[str, ...]:
        """Named after the maps whose sizes they have."""
        return tuple(f"P{number}" for number in self.numbers(last))

    def lower(self, body: Body) -> dict[str, Chain]:
        """The backbone and the pyramid from the top to each level."""
        return {
            f"P{number}": Chain(
                (*body.until(number), *self._merged(body, number), self._convolution(3))
            )
            for number in self.numbers(body.last)
        }

    def follow(self, in_channels: int) -> tuple[Node, ...]:
        """The two convolutions of the coarsest level."""
        return (self._convolution(1, in_channels), self._convolution(3))

    def _merged(self, body: Body, number: int) -> tuple[Node, ...]:
        lateral = self._convolution(1, body.map_channels(number))
        if number == body.last:
            return (lateral,)
        up = enlarged("nearest", body.factor(number, number + 1))
        merged = self._merged(body, number + 1)
        top_down = Chain((body.parts[number], *merged, *up))
        return (Sum((lateral, top_down)),)

    def _convolution(self, kernel_size: int, in_channels: int | None = None) -> Convolution:
        return Convolution(kernel_size, in_channels or self.width, self.width, bias=True)

    def cost(self, body: Body, size: FeatureMap) -> Cost:
        """All but the last convolution of each coarser level is part of the finest one."""
        finest, *coarser = self.numbers(body.last)
        total = cost(self.lower(body)[f"P{finest}"], size)
        for number in coarser:
            level = cost(Chain(body.until(number)), size).output
            own = cost(self._convolution(3), level)
            total = Cost(total.parameters + own.parameters, total.flops + own.flops, own.output)
        return total

    def saved_values(self, body: Body, size: FeatureMap, in_chans: int) -> float:
        """The finest level's, and the input of the last convolution of each coarser one."""
        finest, *coarser = self.numbers(body.last)
        total = saved_values(self.lower(body)[f"P{finest}"], size, in_chans)
        for number in coarser:
            total += cost(Chain(body.until(number)), size).output.area * self.width
        return total


class Merge(Neck):
    """All stages' maps at the size of the first, joined and mixed by a 1x1 convolution.

    This is how HRNetV2 merges its parallel resolutions: Wang et al., "Deep High-Resolution
    Representation Learning for Visual Recognition", TPAMI 2020 (bilinear upsampling). The output
    has the size of `C2` and is called `M2`.

    Attributes:
        width: Output channels.
    """

    kind: Literal["merge"] = "merge"
    width: Channels

    @property
    def most_growth(self) -> int:
        """The two units that a bilinear upsampling looks at, on either side."""
        return 2 + _APART

    @property
    def num_features(self) -> int:
        """Output channels."""
        return self.width

    @property
    def fewest_stages(self) -> int:
        """Two."""
        return 2

    def levels(self, last: int) -> tuple[str, ...]:
        """One, at the size of the first stage's map."""
        return ("M2",)

    def lower(self, body: Body) -> dict[str, Chain]:
        """The backbone, all maps joined, and the 1x1 convolution."""
        channels = sum(body.channels[1:])
        mixed = (*conv_norm(channels, self.width, 1), Relu())
        return {"M2": Chain((*body.until(2), self._joined(body, 2), *mixed))}

    def _joined(self, body: Body, number: int) -> Node:
        own = Chain(enlarged("bilinear", body.factor(2, number)))
        if number == body.last:
            return own
        others = Chain((body.parts[number], self._joined(body, number + 1)))
        return Concat((own, others), (body.map_channels(number), sum(body.channels[number:])))


#: Any kind of neck.
AnyNeck = Annotated[ASPP | UNet | FPN | Merge, Field(discriminator="kind")]
