"""The table of ATen operations that can be traced, each with its handler.

An operation that is neither here nor marked as elementwise by torch is an error: nothing is
guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rfsearch.field import windows
from rfsearch.trace import _mixing as mixing
from rfsearch.trace import _picking as picking
from rfsearch.trace import _reshaping as reshaping
from rfsearch.trace import _slicing as slicing
from rfsearch.trace import _sliding as sliding
from rfsearch.trace.call import Call, Dependence

Handler = Callable[[Call], Dependence | Sequence[Dependence]]

#: Handlers by name of the operation, without a final underscore.
OPERATIONS: dict[str, Handler] = {
    # Positions move.
    "view": reshaping.view,
    "_unsafe_view": reshaping.view,
    "reshape": reshaping.view,
    "_reshape_alias": reshaping.view,
    "permute": reshaping.permute,
    "transpose": reshaping.permute,
    "t": reshaping.permute,
    "expand": reshaping.expand,
    "repeat": reshaping.repeat,
    "unsqueeze": reshaping.unsqueeze,
    "squeeze": reshaping.squeeze,
    "slice": slicing.narrow,
    "select": slicing.select,
    "unbind": slicing.unbind,
    "split": slicing.split,
    "split_with_sizes": slicing.split,
    "unsafe_split": slicing.split,
    "unsafe_split_with_sizes": slicing.split,
    "cat": slicing.concatenate,
    "stack": slicing.stack,
    "constant_pad_nd": slicing.pad,
    **{
        f"{kind}_pad{axes}d": slicing.pad
        for kind in ("reflection", "replication")
        for axes in (1, 2, 3)
    },
    "roll": slicing.roll,
    "flip": slicing.flip,
    "glu": slicing.gated,
    "index": picking.index,
    "index_select": picking.index_select,
    "index_put": picking.index_put,
    **dict.fromkeys(
        (
            "scatter",
            "scatter_add",
            "scatter_reduce",
            "index_add",
            "index_copy",
            "index_fill",
            "masked_scatter",
        ),
        picking.scatter,
    ),
    **dict.fromkeys(
        ("nonzero", "masked_select", "_unique2", "nms", "take"),
        picking.anywhere(),
    ),
    **dict.fromkeys(("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"), picking.anywhere()),
    "embedding": slicing.embedding,
    "unfold": reshaping.unfold,
    "im2col": reshaping.image_to_columns,
    "col2im": sliding.columns_to_image,
    "pixel_shuffle": reshaping.pixel_shuffle,
    "pixel_unshuffle": reshaping.pixel_unshuffle,
    "as_strided": reshaping.restride,
    "channel_shuffle": reshaping.unchanged,
    "native_channel_shuffle": reshaping.unchanged,
    "copy": slicing.overwrite,
    # Windows slide.
    "convolution": sliding.convolution,
    "deform_conv2d": sliding.deformed_convolution,
    **{f"max_pool{axes}d_with_indices": sliding.pooling(axes) for axes in (2, 3)},
    "max_unpool2d": sliding.unpooling,
    "max_unpool3d": sliding.unpooling,
    **{f"avg_pool{axes}d": sliding.pooling(axes) for axes in (1, 2, 3)},
    "_adaptive_avg_pool2d": sliding.adaptive_pooling,
    "_adaptive_avg_pool3d": sliding.adaptive_pooling,
    "adaptive_avg_pool1d": sliding.adaptive_pooling,
    "adaptive_max_pool2d": sliding.adaptive_pooling,
    "adaptive_max_pool3d": sliding.adaptive_pooling,
    **{f"upsample_nearest{axes}d": sliding.resizing(windows.nearest) for axes in (1, 2, 3)},
    **{
        f"_upsample_nearest_exact{axes}d": sliding.resizing(windows.nearest_exact)
        for axes in (1, 2, 3)
    },
    "upsample_linear1d": sliding.resizing(windows.linear, reach=1),
    "upsample_bilinear2d": sliding.resizing(windows.linear, reach=1),
    "upsample_trilinear3d": sliding.resizing(windows.linear, reach=1),
    "upsample_bicubic2d": sliding.resizing(windows.cubic, reach=2),
    "_upsample_bilinear2d_aa": sliding.resizing(windows.antialiased(1), reach=1),
    "_upsample_bicubic2d_aa": sliding.resizing(windows.antialiased(2), reach=2),
    "affine_grid_generator": picking.anywhere("theta"),
    "grid_sampler_2d": mixing.grid_sample,
    "grid_sampler_3d": mixing.grid_sample,
    # Products contract a dimension.
    "mm": mixing.product("self", "mat2"),
    "bmm": mixing.product("self", "mat2"),
    "addmm": mixing.product("mat1", "mat2"),
    "baddbmm": mixing.product("batch1", "batch2"),
    "_scaled_dot_product_flash_attention_for_cpu": mixing.attention,
    "_scaled_dot_product_flash_attention": mixing.attention,
    "_scaled_dot_product_efficient_attention": mixing.attention,
    "mv": mixing.matrix_vector,
    "_euclidean_dist": mixing.distances,
    "_cdist_forward": mixing.distances,
    "_trilinear": mixing.trilinear,
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
    "median": mixing.reduction,
    "min": mixing.reduction,
    "nanmedian": mixing.reduction,
    "norm": mixing.reduction,
    "prod": mixing.reduction,
    "std": mixing.reduction,
    "std_mean": mixing.reduction,
    "sum": mixing.reduction,
    "var": mixing.reduction,
    "var_mean": mixing.reduction,
    **dict.fromkeys(
        ("mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy"), mixing.loss
    ),
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
    # Shape and type alone are taken: the output is a constant.
    "bernoulli": mixing.constant,
    "empty_like": mixing.constant,
    "exponential": mixing.constant,
    "fill": mixing.constant,
    "full_like": mixing.constant,
    "new_empty": mixing.constant,
    "new_empty_strided": mixing.constant,
    "new_full": mixing.constant,
    "new_ones": mixing.constant,
    "new_zeros": mixing.constant,
    "normal": mixing.random,
    "ones_like": mixing.constant,
    "rand_like": mixing.constant,
    "randn_like": mixing.constant,
    "uniform": mixing.constant,
    "zero": mixing.constant,
    "zeros_like": mixing.constant,
}
