"""Random small values for Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from rfsearch.architecture import Architecture, Block, Stage, Stem
from rfsearch.receptive_field import ReceptiveField

KINDS = ("plain", "basic", "bottleneck")
#: Bottleneck blocks need a multiple of four, and small networks are quick to run.
WIDTHS = (4, 8)


@st.composite
def fields(draw: st.DrawFn, stride: int | None = None) -> ReceptiveField:
    size = draw(st.integers(1, 50))
    if stride is None:
        stride = draw(st.integers(1, 8))
    return ReceptiveField(draw(st.integers(-50, 0)), size, stride)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    kernel_size = draw(st.sampled_from((1, 3, 5, 7)))
    dilation = draw(st.integers(1, 4)) if kernel_size > 1 else 1
    return Block(kernel_size=kernel_size, dilation=dilation)


@st.composite
def stages(
    draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, widths: tuple[int, ...] = WIDTHS
) -> Stage:
    stride = draw(st.integers(1, 3))
    downsample = draw(st.sampled_from(("conv", "max_pool", "avg_pool"))) if stride > 1 else "conv"
    return Stage.model_validate(
        {
            "block": draw(st.sampled_from(kinds)),
            "width": draw(st.sampled_from(widths)),
            "stride": stride,
            "downsample": downsample,
            "blocks": draw(st.lists(blocks(), min_size=1, max_size=3)),
        }
    )


@st.composite
def architectures(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = KINDS,
    widths: tuple[int, ...] = WIDTHS,
    max_field: int | None = None,
    max_stride: int | None = None,
) -> Architecture:
    """Up to three stages of up to three blocks.

    Args:
        draw: Hypothesis' own.
        kinds: Kinds of block.
        widths: Widths of stages.
        max_field: Largest theoretical receptive field in px.
        max_stride: Largest output stride in px.
    """
    stem = Stem(
        kernel_size=draw(st.sampled_from((1, 3, 5, 7))),
        stride=draw(st.integers(1, 3)),
        width=draw(st.integers(4, 8)),
        pool=draw(st.sampled_from(("none", "max"))),
    )
    # A stage that makes the network too large is left out, so that few draws are wasted.
    kept: list[Stage] = []
    for stage in draw(st.lists(stages(kinds, widths), min_size=1, max_size=3)):
        field = Architecture(stem=stem, stages=(*kept, stage)).receptive_field()
        small = field.size <= (max_field or field.size)
        if small and field.stride <= (max_stride or field.stride):
            kept.append(stage)
    if not kept:
        kept.append(
            Stage(block=kinds[0], width=widths[0], stride=1, blocks=(Block(kernel_size=3),))
        )
    return Architecture(stem=stem, stages=tuple(kept))


NECKS = ("aspp", "unet", "fpn", "merge")


@st.composite
def neck_dicts(draw: st.DrawFn, kinds: tuple[str, ...], num_stages: int) -> dict[str, Any]:
    """A neck that fits behind so many stages, as plain data."""
    kind = draw(st.sampled_from([k for k in kinds if num_stages > 1 or k in ("aspp", "unet")]))
    widths = st.sampled_from(WIDTHS)
    match kind:
        case "aspp":
            rates = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
            values = {"rates": rates, "width": draw(widths), "image_pooling": draw(st.booleans())}
        case "unet":
            values = {"widths": draw(st.lists(widths, min_size=1, max_size=num_stages))}
        case "fpn":
            values = {"width": draw(widths), "num_levels": draw(st.integers(2, num_stages))}
        case _:
            values = {"width": draw(widths)}
    return {"kind": kind, **values}


@st.composite
def necked(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = NECKS,
    max_field: int | None = None,
    max_stride: int | None = None,
) -> Architecture:
    """Architectures with a neck, whose parts divide sizes exactly."""
    values = draw(architectures(max_field=max_field, max_stride=max_stride)).to_dict()
    values["stem"]["stride"] = min(values["stem"]["stride"], 2)
    for stage in values["stages"]:
        if stage["stride"] > 2 and stage["downsample"] == "conv":
            stage["downsample"] = "max_pool"
    kinds = kinds if len(values["stages"]) > 1 else ("aspp", "unet")
    values["neck"] = draw(neck_dicts(kinds, len(values["stages"])))
    return Architecture.from_dict(values)


def choices(values: tuple[Any, ...], most: int = 2) -> st.SearchStrategy[list[Any]]:
    """A list of one to `most` different values."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


@st.composite
def space_dicts(draw: st.DrawFn) -> dict[str, Any]:
    """Search spaces as plain data, small enough to enumerate by brute force."""
    stem = {
        "kernel_size": draw(choices((1, 3, 5))),
        "stride": draw(choices((1, 2), most=1)),
        "width": 4,
        "pool": draw(choices(("none", "max"))),
    }
    return {"stem": stem, "stages": draw(st.lists(stage_dicts(), min_size=1, max_size=2))}


@st.composite
def stage_dicts(draw: st.DrawFn) -> dict[str, Any]:
    per_block = draw(st.lists(st.sampled_from(("kernel_size", "dilation")), unique=True))
    dilation = draw(choices((1, 2, 4)))
    # One shared dilation of several and kernels of one tap among others cannot be counted.
    one_tap = per_block != ["kernel_size"] or len(dilation) == 1
    return {
        "block": draw(choices(KINDS)),
        "depth": draw(choices((1, 2))),
        "width": draw(choices((4, 8))),
        "stride": draw(choices((1, 2, 3))),
        "downsample": draw(choices(("conv", "max_pool", "avg_pool"))),
        "kernel_size": draw(choices((1, 3, 5) if one_tap else (3, 5))),
        "dilation": dilation,
        "per_block": per_block,
    }


@st.composite
def necked_space_dicts(draw: st.DrawFn) -> dict[str, Any]:
    """Search spaces that offer several necks, or none among them."""
    space = draw(space_dicts())
    for stage in space["stages"]:
        stage["stride"] = draw(choices((1, 2)))
    num_stages = len(space["stages"])
    kinds = ("none", *NECKS) if num_stages > 1 else ("none", "aspp", "unet")
    space["neck"] = {"kind": draw(choices(kinds, most=3))}
    fields = {
        "rates": (("aspp",), [[1, 2], [3]]),
        "width": (("aspp", "fpn", "merge"), draw(choices((4, 8)))),
        "image_pooling": (("aspp",), draw(choices((False, True)))),
        "widths": (("unet",), [[8], [8, 4]][:num_stages]),
        "num_levels": (("fpn",), 2),
    }
    for name, (owners, values) in fields.items():
        if any(kind in owners for kind in space["neck"]["kind"]):
            space["neck"][name] = values
    return space
