"""The table of operations that have a rule, each with its handler.

A handler takes an `Operation` and returns the number of the step that its output is made by.
"""

from __future__ import annotations

from collections.abc import Callable

from rfsearch.field import windows
from rfsearch.tape._axes import (
    cubic,
    linear,
)
from rfsearch.tape._joining import addition, concatenation, division, gated, multiplication
from rfsearch.tape._values import learned_slope, rectifier, reduction
from rfsearch.tape._weighing import attention, joint_normalisation, normalisation, product, softmax
from rfsearch.tape._windows import (
    adaptive_pooling,
    convolution,
    copied,
    narrow,
    padding,
    parts,
    picked,
    pooling,
    resizing,
    rolled,
)
from rfsearch.tape.operation import Operation

Handler = Callable[[Operation], int]


def same(operation: Operation) -> int:
    """Units stay what they are, wherever they are moved to."""
    return operation.number(operation.first)


_SAME = (
    "view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "expand",
    "repeat", "unsqueeze", "squeeze", "pixel_shuffle", "pixel_unshuffle", "as_strided",
    "channel_shuffle", "native_channel_shuffle", "_to_copy", "alias", "clone", "contiguous",
    "detach", "dropout", "native_dropout", "lift_fresh", "type_as",
)  # fmt: skip
#: Handlers by name of the operation, without a final underscore.
HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(_SAME, same),
    **dict.fromkeys(
        (
            "constant_pad_nd",
            *(
                f"{kind}_pad{axes}d"
                for kind in ("reflection", "replication")
                for axes in (1, 2, 3)
            ),
        ),
        padding,
    ),
    **dict.fromkeys(
        ("unbind", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), parts
    ),
    **dict.fromkeys(("select", "index", "index_select", "flip"), picked),
    "slice": narrow,
    "roll": rolled,
    "copy": copied,
    "glu": gated,
    "cat": concatenation,
    "stack": concatenation,
    "convolution": convolution,
    **{f"max_pool{axes}d_with_indices": pooling("max", axes) for axes in (2, 3)},
    **{f"avg_pool{axes}d": pooling("avg", axes) for axes in (1, 2, 3)},
    **dict.fromkeys(
        ("adaptive_avg_pool1d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
        adaptive_pooling("avg"),
    ),
    **dict.fromkeys(("adaptive_max_pool2d", "adaptive_max_pool3d"), adaptive_pooling("max")),
    **dict.fromkeys(
        [f"upsample_nearest{axes}d" for axes in (1, 2, 3)],
        resizing(windows.nearest, lambda distance: 1.0),
    ),
    **dict.fromkeys(
        [f"_upsample_nearest_exact{axes}d" for axes in (1, 2, 3)],
        resizing(windows.nearest_exact, lambda distance: 1.0),
    ),
    **dict.fromkeys(
        ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
        resizing(windows.linear, linear, reach=1),
    ),
    "upsample_bicubic2d": resizing(windows.cubic, cubic(-0.75), reach=2),
    "_upsample_bilinear2d_aa": resizing(windows.antialiased(1), linear, reach=1, antialiased=True),
    "_upsample_bicubic2d_aa": resizing(
        windows.antialiased(2), cubic(-0.5), reach=2, antialiased=True
    ),
    "mm": product("self", "mat2"),
    "bmm": product("self", "mat2"),
    "addmm": product("mat1", "mat2"),
    "baddbmm": product("batch1", "batch2"),
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_flash_attention": attention,
    "_scaled_dot_product_efficient_attention": attention,
    "_softmax": softmax,
    "_safe_softmax": softmax,
    "native_batch_norm": normalisation,
    "_native_batch_norm_legit_no_training": normalisation,
    "native_layer_norm": joint_normalisation,
    "native_group_norm": joint_normalisation,
    "add": addition,
    "sub": addition,
    "mul": multiplication,
    "div": division,
    **dict.fromkeys(("relu", "hardtanh", "clamp", "clamp_min"), rectifier),
    "_prelu_kernel": learned_slope,
    "mean": reduction("mean"),
    "sum": reduction("sum"),
    "amax": reduction("max"),
}
