"""What a model takes in, found at the first layer with weights that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

#: Runs a module on images.
Forward = Callable[[nn.Module, Tensor], Any]
#: Channels that are tried where those of the first convolution do not fit.
_USUAL_CHANNELS = (3, 1, *range(2, 17))
_COLOURS = 3


class TakenIn(NamedTuple):
    """What a model takes in.

    Attributes:
        in_chans: Channels of its input.
        num_axes: Axes of its input beside the batch and the channels: 2 of an image.
    """

    in_chans: int
    num_axes: int


class _Reached(BaseException):  # not an error: it leaves the model's forward
    """The first layer with weights is about to run."""

    def __init__(self, layer: nn.Module, given: Tensor) -> None:
        super().__init__()
        self.num_axes = len(layer.kernel_size) if isinstance(layer, _ConvNd) else None
        self.is_image = self.num_axes is None or given.ndim in _dims(self.num_axes)
        self.wanted = int(getattr(layer, "in_channels", None) or layer.in_features)  # type: ignore[arg-type]
        dim = -1 if self.num_axes is None or not self.is_image else -1 - self.num_axes
        self.given = given.shape[dim]

    def channels(self, tried: int) -> Iterator[int]:
        """Channels of the input with which the layer would get what it wants."""
        if self.given and tried * self.wanted % self.given == 0:
            yield tried * self.wanted // self.given  # Pixels were moved into channels.
        yield tried + self.wanted - self.given  # Coordinates were added.


def taken_in(
    twin: nn.Module, size: tuple[int, ...], forward: Forward | None, in_chans: int | None
) -> TakenIn:
    """Run a model up to the first convolution or linear layer, with other channels till it fits.

    Args:
        twin: A copy without data.
        size: `(height, width)` of the input in px.
        forward: Runs the module on images. `None` means to call it.
        in_chans: Channels of the input, where they are known.
    """
    convolutions = [module for module in twin.modules() if isinstance(module, _ConvNd)]
    guess = in_chans or (convolutions[0].in_channels if convolutions else _COLOURS)
    candidates = [guess]
    for tried in candidates:
        reached = _run(twin, images_without_data(twin, tried, size), forward)
        if isinstance(reached, _Reached):
            if reached.num_axes is not None and not reached.is_image:
                return TakenIn(guess, reached.num_axes)
            if in_chans is not None or reached.given == reached.wanted:
                return TakenIn(tried, 2)
            further = [channels for channels in reached.channels(tried) if channels > 0]
        elif reached is None:
            return TakenIn(tried, 2)
        else:
            further = []
        if tried == guess:
            further += () if in_chans else _USUAL_CHANNELS
        candidates += [channels for channels in further if channels not in candidates]
    axes = {len(module.kernel_size) for module in convolutions}
    # It does not run at all: what the convolutions are made for is what is left.
    return TakenIn(guess, 2 if not axes or 2 in axes else max(axes))


def images_without_data(module: nn.Module, in_chans: int, size: tuple[int, ...]) -> Tensor:
    """One image `(1, in_chans, *size)` on the meta device, in the module's precision."""
    kinds = (p.dtype for p in module.parameters() if p.is_floating_point())
    dtype = next(kinds, torch.float32)
    return torch.empty(1, in_chans, *size, device="meta", dtype=dtype)


def _run(twin: nn.Module, images: Tensor, forward: Forward | None) -> _Reached | Exception | None:
    def stop(layer: nn.Module, inputs: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim:
            raise _Reached(layer, inputs[0])

    layers = [module for module in twin.modules() if isinstance(module, _ConvNd | nn.Linear)]
    handles = [layer.register_forward_pre_hook(stop, prepend=True) for layer in layers]
    try:
        with torch.no_grad():
            twin(images) if forward is None else forward(twin, images)
    except _Reached as reached:
        return reached
    except Exception as error:  # Whatever a model raises for channels that it does not take.
        return error
    finally:
        for handle in handles:
            handle.remove()
    return None


def _dims(num_axes: int) -> tuple[int, ...]:
    """Dimensions of what is an image to a layer; a plane or a volume without a batch is none."""
    return (num_axes + 2,) if num_axes == 3 else (num_axes + 1, num_axes + 2)
