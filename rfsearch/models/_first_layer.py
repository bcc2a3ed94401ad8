"""What a model takes in, found at the first layer with weights that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rfsearch.basics.limits import MAX_CHANNELS

#: Runs a module on images.
Forward = Callable[[nn.Module, Tensor], Any]
#: Channels that are tried where those of the first convolution do not fit.
_USUAL_CHANNELS = (3, 1, *range(2, 17))
_COLOURS = 3


class TakenIn(NamedTuple):
    """What a model takes in.

    Attributes:
        in_chans: Channels of its input.
        size: Sides of its input in px.
    """

    in_chans: int
    size: tuple[int, ...]


class _Reached(BaseException):  # not an error: it leaves the model's forward
    """The first layer with weights is about to run."""

    def __init__(self, layer: nn.Module, given: Tensor, num_axes: int) -> None:
        super().__init__()
        axes = len(layer.kernel_size) if isinstance(layer, _ConvNd) else None
        # What has no batch any more is taken for an input of as many axes as there are alone.
        self.fits = axes is None or given.ndim in (axes + 2, axes + 1 + (axes != num_axes))
        self.wanted = int(getattr(layer, "in_channels", None) or layer.in_features)  # type: ignore[arg-type]
        self.given = given.shape[-1 if axes is None or not self.fits else -1 - axes]

    def channels(self, tried: int) -> Iterator[int]:
        """Channels of the input with which the layer would get what it wants."""
        if self.given and tried * self.wanted % self.given == 0:
            yield tried * self.wanted // self.given  # Pixels were moved into channels.
        yield tried + self.wanted - self.given  # Coordinates were added.


def convolved_axes(module: nn.Module) -> tuple[int, ...]:
    """How many axes the convolutions of a module have, the first ones first."""
    kernels = (one.kernel_size for one in module.modules() if isinstance(one, _ConvNd))
    return tuple(dict.fromkeys(map(len, kernels)))


def taken_in(
    twin: nn.Module,
    sizes: Sequence[tuple[int, ...]],
    forward: Forward | None,
    in_chans: int | None,
) -> TakenIn | None:
    """Run a model up to the first convolution or linear layer, with other channels till it fits.

    Args:
        twin: A copy without data.
        sizes: Sides of the input in px, of which those of the first are taken whose number of
            axes is that of the first layer; of one that does not run at all, the first.
        forward: Runs the module on inputs. `None` means to call it.
        in_chans: Channels of the input, where they are known.

    Returns:
        None if the first layer takes inputs of another number of axes than any of `sizes`.
    """
    first = None
    for size in sizes:
        found = _tried(twin, size, forward, in_chans)
        if found is not None and found.runs:
            return found.taken
        first = first or found
    return first and first.taken


class _Tried(NamedTuple):
    """What a model takes in, and whether it gets to its first layer so."""

    taken: TakenIn
    runs: bool


def _tried(
    twin: nn.Module, size: tuple[int, ...], forward: Forward | None, in_chans: int | None
) -> _Tried | None:
    """None if the first layer takes inputs of another number of axes."""
    convolutions = [module for module in twin.modules() if isinstance(module, _ConvNd)]
    guess = in_chans or (convolutions[0].in_channels if convolutions else _COLOURS)
    candidates = [guess]
    for tried in candidates:
        reached = _run(twin, images_without_data(twin, tried, size), forward)
        if isinstance(reached, _Reached):
            if not reached.fits:
                return None
            if in_chans is not None or reached.given == reached.wanted:
                return _Tried(TakenIn(tried, size), runs=True)
            further = [
                channels for channels in reached.channels(tried) if 0 < channels <= MAX_CHANNELS
            ]
        elif reached is None:
            return _Tried(TakenIn(tried, size), runs=True)
        else:
            further = []
        if tried == guess:
            further += () if in_chans else _USUAL_CHANNELS
        candidates += [channels for channels in further if channels not in candidates]
    return _Tried(TakenIn(guess, size), runs=False)


def images_without_data(module: nn.Module, in_chans: int, size: tuple[int, ...]) -> Tensor:
    """One input `(1, in_chans, *size)` on the meta device, in the module's precision."""
    kinds = (p.dtype for p in module.parameters() if p.is_floating_point())
    dtype = next(kinds, torch.float32)
    return torch.empty(1, in_chans, *size, device="meta", dtype=dtype)


def _run(twin: nn.Module, images: Tensor, forward: Forward | None) -> _Reached | Exception | None:
    def stop(layer: nn.Module, inputs: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim:
            raise _Reached(layer, inputs[0], images.ndim - 2)

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
