"""How images become inputs of a network, and what that does to the sizes of objects.

- `"none"`: tiles or crops at native resolution; sizes stay as they are.
- `"stretch"`: height and width are each scaled to the input's; shapes change.
- `"letterbox"`: scaled by one factor so that all of the image fits into the input, whose rest is
  padding. For a square input: the longer side fits.
- `"shorter"`: scaled by one factor so that the image covers the input, and cropped. For a square
  input: the shorter side fits. What the crop takes away of objects is not taken into account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Resize = Literal["none", "stretch", "letterbox", "shorter"]
RESIZES: tuple[Resize, ...] = get_args(Resize)


def check_resize(resize: str | None, input_size: tuple[int, int] | None) -> Resize:
    """The way of resizing, where None is `"letterbox"` or, without an input size, `"none"`.

    Raises:
        ValueError: If it is none of `RESIZES`, or needs an input size that is not given.
    """
    if resize is None:
        return "none" if input_size is None else "letterbox"
    known = next((way for way in RESIZES if way == resize), None)
    if known is None:
        raise ValueError(f"`resize` must be one of {', '.join(RESIZES)}, but got {resize!r}.")
    if input_size is None and known != "none":
        raise ValueError(f"`input_size` must be given in px for `resize` of {resize!r}.")
    return known


def resize_factors(
    sizes: NDArray[np.float64], input_size: tuple[int, int] | None, resize: Resize
) -> NDArray[np.float64]:
    """Vertical and horizontal factors that images are scaled by.

    Args:
        sizes: `(images, 2)`: height and width of each in px.
        input_size: `(height, width)` of the network's input in px.
        resize: The way; `"none"` needs no sizes.

    >>> resize_factors(np.array([[480.0, 640.0]]), (240, 240), "letterbox")
    array([[0.375, 0.375]])
    """
    if input_size is None or resize == "none":
        return np.ones_like(sizes)
    factors = np.asarray(input_size) / sizes
    if resize == "stretch":
        return factors
    one = factors.min(axis=1) if resize == "letterbox" else factors.max(axis=1)
    return np.stack([one, one], axis=1)
