"""A model that was resolved: what tracing and measuring must know of it, and copies to run.

It holds how to make the module, so torch and timm are loaded where one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rfsearch.basics.axes import by_x
from rfsearch.basics.limits import check_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.models._first_layer import Forward
    from rfsearch.network.architecture import Architecture

#: Sides in px at which models that do not take every size are tried, by the number of axes.
_USUAL_SIZES = {1: (4096, 16_000, 65_536), 2: (224, 256, 384, 512), 3: (64, 96, 112, 128)}
#: What torch says where it is asked for the values of tensors that have none.
_WITHOUT_VALUES = ("meta tensor", "meta device", "unallocated storage")


@dataclass(frozen=True, eq=False)
class ResolvedModel:
    """A model, and what must be known of it to run it.

    Attributes:
        name: As it was given, or the class of a module.
        input_size: Sides of the input in px, as `(height, width)`.
        in_chans: Channels of the input.
        weights: Which weights it has, in words.
        architecture: What it is built from, if it was given as one: closed forms know its fields.
        run: Runs a module on images; None means to call it.
    """

    name: str
    input_size: tuple[int, ...]
    in_chans: int
    weights: str
    architecture: Architecture | None
    _make: Callable[[], nn.Module]
    _make_skeleton: Callable[[], nn.Module]
    run: Forward | None = None

    def call(self, module: nn.Module, images: Tensor) -> Any:
        """Run a module, its own or a copy of it, on images."""
        return module(images) if self.run is None else self.run(module, images)

    @property
    def num_axes(self) -> int:
        """Axes of the input beside the batch and the channels: 2 of an image."""
        return len(self.input_size)

    @property
    def module(self) -> nn.Module:
        """The module itself with its weights, as it was given; made when it is first asked for.

        Raises:
            ValueError: If the memory does not hold it.
        """
        _check_weights(self._make_skeleton(), self.name)
        return self._make()

    def copy(self) -> nn.Module:
        """A copy of the module with its weights, in evaluation mode, without wrappers.

        Raises:
            ValueError: If it cannot be copied, or the memory does not hold it twice.
        """
        from rfsearch.models.copies import copied

        _check_weights(self._make_skeleton(), self.name, " and of its copy", times=2)
        return copied(self.module)

    def twin(self) -> nn.Module:
        """A copy without data, in evaluation mode, without wrappers.

        Raises:
            ValueError: If it cannot be copied.
        """
        from rfsearch.models.copies import without_data

        return without_data(self._make_skeleton())

    def images_without_data(self, twin: nn.Module) -> Tensor:
        """One input `(1, in_chans, *input_size)` on the meta device, for a copy without data."""
        from rfsearch.models._first_layer import images_without_data

        return images_without_data(twin, self.in_chans, self.input_size)

    def at(self, input_size: tuple[int, ...]) -> ResolvedModel:
        """The same model with inputs of another size in px, of as many axes."""
        return replace(self, input_size=input_size)

    def over(self, module: nn.Module, weights: str | None = None) -> ResolvedModel:
        """The same with a module in the place of its own, such as a changed copy of it.

        Args:
            module: The module.
            weights: Which weights it has, in words; `None` means those that the model has.
        """
        return replace(
            self,
            weights=weights or self.weights,
            architecture=None,
            _make=lambda: module,
            _make_skeleton=lambda: module,
        )

    def check_runs(self) -> None:
        """Run the model, with its weights, on an image of zeros.

        Raises:
            ValueError: If it does not run.
        """
        import torch

        module = self.copy()
        like = next(module.parameters(), torch.empty(0))
        image = torch.zeros(1, self.in_chans, *self.input_size)
        try:
            with torch.no_grad():
                self.call(module, image.to(like))
        except Exception as error:  # Whatever a model raises.
            raise self.failure(error) from error

    def failure(self, error: Exception, layer: str = "") -> ValueError:
        """What to say of a model that does not run: the size that it takes, or what went wrong.

        Args:
            error: What it raised.
            layer: Name of the layer that was running.
        """
        must = f"{self.name} must run at an input of {by_x(self.input_size)} px"
        size = self._size_that_runs()
        if size is not None:
            return ValueError(f"{must}, but it does not; it does at {by_x(size)} px.")
        place = f" in layer `{layer}`" if layer else ""
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if any(word in reason for word in _WITHOUT_VALUES):
            reason = "it asks for the values of a tensor, which a run without data does not have"
        channels = f"{self.in_chans} channel{'s' if self.in_chans > 1 else ''}"
        return ValueError(f"{must} and {channels}, but it fails{place}: {reason}")

    def _size_that_runs(self) -> tuple[int, ...] | None:
        """A size that the model takes, where it is the size that it does not take."""
        if self.runs_at(self.input_size):
            return None
        stated = stated_size(self._make_skeleton())
        usual = ((side,) * self.num_axes for side in _USUAL_SIZES[self.num_axes])
        sizes = (*([stated] if stated and self.num_axes == len(stated) else []), *usual)
        return next((size for size in sizes if self.runs_at(size)), None)

    def runs_at(self, size: tuple[int, ...]) -> bool:
        """Whether the model takes inputs of this size in px."""
        import torch

        try:
            twin = self.twin()
            with torch.no_grad():
                self.call(twin, self.at(size).images_without_data(twin))
        except Exception:  # Whatever a model raises.
            return False
        return True


def _check_weights(module: nn.Module, name: str, others: str = "", times: int = 1) -> None:
    """Refuse weights that the memory of this machine does not hold, where they will lie there."""
    from torch.nn.parameter import is_lazy

    weights = (*module.parameters(), *module.buffers())
    here = [one for one in weights if one.device.type in ("cpu", "meta") and not is_lazy(one)]
    check_memory(times * sum(one.nbytes for one in here), f"The weights of {name}{others}")


def stated_size(module: nn.Module) -> tuple[int, int] | None:
    """The size that a timm model says that it is made for."""
    stated: dict[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    height, width = stated.get("input_size", (0, 0, 0))[-2:]
    return (height, width) if height else None
