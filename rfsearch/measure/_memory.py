"""How much memory a network needs: at least, before any of it is taken, and at its peak."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rfsearch.basics.axes import by_x
from rfsearch.basics.limits import check_memory
from rfsearch.trace.layers import named_tensors

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.measure.read import Read
    from rfsearch.models.resolved import ResolvedModel

#: Fewer pixels than this in a pass are not worth an estimate.
_FEW_PIXELS = 2**21


class _Maps(NamedTuple):
    """Bytes of a network's maps, for one image.

    Attributes:
        largest: What one layer takes in and gives.
        all: What all layers give.
    """

    largest: int
    all: int


def check_fits(
    model: ResolvedModel,
    device: torch.device,
    run: Read,
    *,
    count: int = 1,
    gradients: bool = False,
) -> None:
    """Refuse images whose maps are larger than the memory of this machine.

    Memory of other devices is not looked at: `out_of_memory` says so when it runs out.

    Args:
        model: The network, which is run without data.
        device: Where it will run.
        run: Runs the module on images.
        count: Images in a pass.
        gradients: Whether the maps of all layers are kept for a backward pass.

    Raises:
        ValueError: If they are.
    """
    if device.type != "cpu" or count * prod(model.input_size) < _FEW_PIXELS:
        return
    maps = _maps(model, run)
    needed = maps.all if gradients else maps.largest
    images = f"a batch of {count} images" if count > 1 else "an image"
    size = by_x(model.input_size)
    check_memory(count * needed, f"The maps of {model.name} for {images} of {size} px")


@contextmanager
def out_of_memory(model: ResolvedModel, device: torch.device) -> Iterator[None]:
    """Say in one line that a device has not the memory.

    Raises:
        ValueError: If it has not.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{model.name} must fit into the memory of {device} with images of "
            f"{by_x(model.input_size)} px, but does not: give smaller ones, or fewer at once."
        ) from error


def _maps(model: ResolvedModel, run: Read) -> _Maps:
    twin = model.twin()
    images = model.images_without_data(twin)
    largest = images.nbytes
    kept: dict[int, Tensor] = {images.untyped_storage()._cdata: images}

    def look(_module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        given, taken = _by_storage(output), _by_storage(inputs)
        kept.update(given)
        largest = max(largest, sum(tensor.nbytes for tensor in (taken | given).values()))

    for child in twin.modules():
        if not any(child.children()):
            child.register_forward_hook(look)
    # What fails is counted as far as it runs.
    with torch.no_grad(), suppress(Exception):
        run(twin, images)
    return _Maps(largest, sum(tensor.nbytes for tensor in kept.values()))


def _by_storage(values: Any) -> dict[int, Tensor]:
    """Tensors, of which those that share their memory are one."""
    return {tensor.untyped_storage()._cdata: tensor for _, tensor in named_tensors(values)}


def cuda_peak(module: nn.Module, make_images: Callable[[], Tensor]) -> float:
    """Bytes, without those that the process holds beside the model and its input."""
    weights = [*module.parameters(), *module.buffers()]
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    module(make_images())
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before + sum(one.nbytes for one in weights)


def tracked_peak(module: nn.Module, make_images: Callable[[], Tensor]) -> float:
    """Bytes of the tensors that live at the same time."""
    from torch.distributed._tools.mem_tracker import MemTracker
    from torch.nn.utils import parametrize

    images = make_images()
    tracker = MemTracker()
    # The tracker cannot follow how weights are made of others: they are made before.
    with parametrize.cached():
        made = [
            getattr(part, name)
            for part in module.modules()
            if parametrize.is_parametrized(part)
            for name in part.parametrizations  # type: ignore[union-attr]
        ]
        tracker.track_external(module, images, *made)
        with tracker:
            module(images)
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    return float(peak["Total"])
