"""Random small values for Hypothesis."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.network import blocks as blocks_of
from rfsearch.network.architecture import Architecture
from rfsearch.network.stages import DOWNSAMPLINGS, Block, Context, Stage
from rfsearch.network.stems import Stem, StemKind, StemPool

KINDS: tuple[str, ...] = tuple(blocks_of.KINDS)
STEM_KINDS: tuple[str, ...] = get_args(StemKind)
STEM_POOLS: tuple[str, ...] = get_args(StemPool)
LOCAL_KINDS = tuple(kind for kind in KINDS if kind != "attention")
CONTEXTS: tuple[str, ...] = get_args(Context)
#: Inception blocks need a multiple of eight, and small networks are quick to run.
WIDTHS = (8, 16)


@st.composite
def fields(draw: st.DrawFn, stride: int | None = None) -> ReceptiveField:
    size = draw(st.integers(1, 50))
    if stride is None:
        stride = draw(st.integers(1, 8))
    return ReceptiveField(draw(st.integers(-50, 0)), size, stride)


@st.composite
def blocks(draw: st.DrawFn, kind: str) -> Block:
    if not blocks_of.KINDS[kind].has_window:
        return Block(kernel_size=1)
    kernel_size = draw(st.sampled_from((1, 3, 5, 7)))
    dilation = draw(st.integers(1, 4)) if kernel_size > 1 else 1
    return Block(kernel_size=kernel_size, dilation=dilation)


@st.composite
def stages(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = KINDS,
    widths: tuple[int, ...] = WIDTHS,
    contexts: tuple[str, ...] = CONTEXTS,
) -> Stage:
    stride = draw(st.integers(1, 3))
    block = draw(st.sampled_from(kinds))
    kind = blocks_of.KINDS[block]
    return Stage.model_validate(
        {
            "block": block,
            "width": draw(st.sampled_from(widths)),
            "stride": stride,
            "downsample": draw(st.sampled_from(DOWNSAMPLINGS)) if stride > 1 else "conv",
            "context": draw(st.sampled_from(contexts)) if kind.has_context else "none",
            "expansion": draw(st.sampled_from((1, 2, 4))) if kind.has_expansion else 4,
            "blocks": draw(st.lists(blocks(block), min_size=1, max_size=3)),
        }
    )


@st.composite
def stems(draw: st.DrawFn, kinds: tuple[str, ...] = STEM_KINDS) -> Stem:
    kind, stride = draw(st.sampled_from(kinds)), draw(st.integers(1, 3))
    patches = kind == "patch"
    return Stem.model_validate(
        {
            "kind": kind,
            "kernel_size": stride if patches else draw(st.sampled_from((1, 3, 5, 7))),
            "stride": stride,
            "width": draw(st.integers(4, 8)),
            "pool": "none" if patches else draw(st.sampled_from(STEM_POOLS)),
        }
    )


@st.composite
def architectures(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = KINDS,
    widths: tuple[int, ...] = WIDTHS,
    max_field: int | None = None,
    max_stride: int | None = None,
    stem_kinds: tuple[str, ...] = STEM_KINDS,
    contexts: tuple[str, ...] = CONTEXTS,
) -> Architecture:
    """Up to three stages of up to three blocks.

    Args:
        draw: Hypothesis' own.
        kinds: Kinds of block.
        widths: Widths of stages.
        max_field: Largest theoretical receptive field in px.
        max_stride: Largest output stride in px.
        stem_kinds: Kinds of stem.
        contexts: Contexts of blocks that may have one.
    """
    stem = draw(stems(stem_kinds))
    # A stage that makes the network too large is left out, so that few draws are wasted.
    kept: list[Stage] = []
    for stage in draw(st.lists(stages(kinds, widths, contexts), min_size=1, max_size=3)):
        field = Architecture(stem=stem, stages=(*kept, stage)).receptive_field()
        small = field.size <= (max_field or field.size)
        if small and field.stride <= (max_stride or field.stride):
            kept.append(stage)
    if not kept:
        kept.append(draw(stages(kinds[:1], widths[:1]).filter(lambda stage: stage.stride == 1)))
    return Architecture(stem=stem, stages=tuple(kept))


def local_architectures(**options: Any) -> st.SearchStrategy[Architecture]:
    """Architectures without parts that see the whole image."""
    return architectures(LOCAL_KINDS, contexts=("none",), **options)


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
    """Architectures with a neck, whose parts divide sizes exactly and have no global parts."""
    values = draw(local_architectures(max_field=max_field, max_stride=max_stride)).to_dict()
    stem = values["stem"]
    stem["stride"] = min(stem["stride"], 2)
    if stem.get("kind") == "patch":
        stem["kernel_size"] = stem["stride"]
    for stage in values["stages"]:
        if stage["stride"] > 2 and stage["downsample"] not in ("max_pool", "avg_pool"):
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
        "kind": draw(choices(STEM_KINDS)),
        "kernel_size": draw(choices((1, 3, 5))),
        "stride": draw(choices((1, 2), most=1)),
        "width": 4,
        "pool": draw(choices(STEM_POOLS, most=1)),
    }
    return {"stem": stem, "stages": draw(st.lists(stage_dicts(), min_size=1, max_size=2))}


@st.composite
def stage_dicts(draw: st.DrawFn) -> dict[str, Any]:
    per_block = draw(st.lists(st.sampled_from(("kernel_size", "dilation")), unique=True))
    numbers: tuple[int | str, ...] = (1, 2, 4)
    patterns = ("1-2", "1-2-4") if "dilation" not in per_block else ()
    dilation = draw(choices((*numbers, *patterns)))
    # Few of what does the same to counting, so that spaces stay small.
    contexts, expansions = draw(st.sampled_from(((2, 1), (1, 2))))
    # One shared dilation of several and kernels of one tap among others cannot be counted.
    one_tap = per_block != ["kernel_size"] or len(dilation) == 1
    return {
        "block": draw(choices(KINDS)),
        "depth": draw(choices((1, 2))),
        "width": draw(choices(WIDTHS, most=1)),
        "stride": draw(choices((1, 2, 3))),
        "downsample": draw(choices(DOWNSAMPLINGS)),
        "context": draw(choices(CONTEXTS, contexts)),
        "expansion": draw(choices((2, 4), expansions)),
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
