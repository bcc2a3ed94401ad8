"""The table of ATen operations that can be traced, each with its handler.

An operation that is neither here nor marked as elementwise by torch is an error: nothing is
guessed.
"""

from __future__ import annotations

from rfsearch import trace_mixing as mixing
from rfsearch import trace_movement as movement
from rfsearch import trace_windows as windows
from rfsearch.trace_movement import Handler

#: Handlers by name of the operation, without a final underscore.
OPERATIONS: dict[str, Handler] = {
    # Positions move.
    "view": movement.view,
    "_unsafe_view": movement.view,
    "reshape": movement.view,
    "_reshape_alias": movement.view,
    "permute": movement.permute,
    "transpose": movement.transpose,
    "t": movement.transpose,
    "expand": movement.expand,
    "repeat": movement.repeat,
    "unsqueeze": movement.unsqueeze,
    "squeeze": movement.squeeze,
    "slice": movement.narrow,
    "select": movement.select,
    "unbind": movement.unbind,
    "split": movement.split,
    "split_with_sizes": movement.split,
    "cat": movement.concatenate,
    "stack": movement.stack,
    "constant_pad_nd": movement.pad,
    "reflection_pad1d": movement.pad,
    "reflection_pad2d": movement.pad,
    "replication_pad1d": movement.pad,
    "replication_pad2d": movement.pad,
    "roll": movement.roll,
    "flip": movement.flip,
    "index": movement.index,
    "index_select": movement.index_select,
    "unfold": movement.unfold,
    "im2col": movement.image_to_columns,
    "pixel_shuffle": movement.pixel_shuffle,
    "pixel_unshuffle": movement.pixel_unshuffle,
    "as_strided": movement.restride,
    "channel_shuffle": movement.unchanged,
    "native_channel_shuffle": movement.unchanged,
    "copy": movement.overwrite,
    # Windows slide.
    "convolution": mixing.convolution,
    "max_pool2d_with_indices": mixing.pooling(2),
    "max_pool3d_with_indices": mixing.pooling(3),
    "avg_pool1d": mixing.pooling(1),
    "avg_pool2d": mixing.pooling(2),
    "avg_pool3d": mixing.pooling(3),
    "_adaptive_avg_pool2d": mixing.adaptive_pooling,
    "_adaptive_avg_pool3d": mixing.adaptive_pooling,
    "adaptive_avg_pool1d": mixing.adaptive_pooling,
    "adaptive_max_pool2d": mixing.adaptive_pooling,
    "upsample_nearest1d": mixing.resizing(windows.nearest),
    "upsample_nearest2d": mixing.resizing(windows.nearest),
    "_upsample_nearest_exact2d": mixing.resizing(windows.nearest_exact),
    "upsample_linear1d": mixing.resizing(windows.linear, reach=1),
    "upsample_bilinear2d": mixing.resizing(windows.linear, reach=1),
    "upsample_bicubic2d": mixing.resizing(windows.cubic, reach=2),
    "_upsample_bilinear2d_aa": mixing.resizing(windows.antialiased(1), reach=1),
    "_upsample_bicubic2d_aa": mixing.resizing(windows.antialiased(2), reach=2),
    "grid_sampler_2d": mixing.grid_sample,
    # Products contract a dimension.
    "mm": mixing.product("self", "mat2"),
    "bmm": mixing.product("self", "mat2"),
    "addmm": mixing.product("mat1", "mat2"),
    "baddbmm": mixing.product("batch1", "batch2"),
    "_scaled_dot_product_flash_attention_for_cpu": mixing.attention,
    "_scaled_dot_product_flash_attention": mixing.attention,
    "_scaled_dot_product_efficient_attention": mixing.attention,
    # Dimensions are reduced.
    "all": mixing.reduction,
    "amax": mixing.reduction,
    "amin": mixing.reduction,
    "any": mixing.reduction,
    "argmax": mixing.reduction,
    "argmin": mixing.reduction,
    "linalg_vector_norm": mixing.reduction,
    "logsumexp": mixing.reduction,
    "max": mixing.reduction,
    "mean": mixing.reduction,
    "min": mixing.reduction,
    "norm": mixing.reduction,
    "prod": mixing.reduction,
    "std": mixing.reduction,
    "sum": mixing.reduction,
    "var": mixing.reduction,
    "var_mean": mixing.reduction,
    # Dimensions are mixed and stay.
    "_softmax": mixing.mixing,
    "_safe_softmax": mixing.mixing,
    "_log_softmax": mixing.mixing,
    "cumsum": mixing.mixing,
    "argsort": mixing.mixing,
    "sort": mixing.mixing,
    "native_layer_norm": mixing.layer_norm,
    "native_group_norm": mixing.group_norm,
    "native_batch_norm": mixing.batch_norm,
    "_native_batch_norm_legit_no_training": mixing.batch_norm,
    # Positions along the dimension mean something else afterwards.
    "_fft_c2c": mixing.scrambling,
    "_fft_c2r": mixing.scrambling,
    "_fft_r2c": mixing.scrambling,
    "gather": mixing.scrambling,
    "topk": mixing.scrambling,
    # Elementwise, but not marked so by torch.
    "_to_copy": mixing.elementwise,
    "_conj": mixing.elementwise,
    "alias": mixing.elementwise,
    "bernoulli": mixing.elementwise,
    "clone": mixing.elementwise,
    "contiguous": mixing.elementwise,
    "hardswish": mixing.elementwise,
    "hardsigmoid": mixing.elementwise,
    "hardtanh": mixing.elementwise,
    "leaky_relu": mixing.elementwise,
    "softplus": mixing.elementwise,
    "elu": mixing.elementwise,
    "mish": mixing.elementwise,
    "detach": mixing.elementwise,
    "dropout": mixing.elementwise,
    "masked_fill": mixing.elementwise,
    "native_dropout": mixing.elementwise,
    "real": mixing.elementwise,
    "imag": mixing.elementwise,
    "type_as": mixing.elementwise,
    "_prelu_kernel": mixing.elementwise,
    "lift_fresh": mixing.elementwise,
}

#: Operations that take a tensor's shape and type alone: their output is a constant.
CONSTANTS = frozenset(
    {
        "empty_like", "fill", "full_like", "new_empty", "new_empty_strided", "new_full",
        "new_ones", "new_zeros", "ones_like", "rand_like", "randn_like", "zero", "zeros_like",
    }
)  # fmt: skip
