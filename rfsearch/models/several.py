"""Models with several inputs, of which one is followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from rfsearch.basics.axes import InputSize

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Shapes `(channels, *sides)` of all inputs, in their order or by their names.
Shapes: TypeAlias = "Sequence[Sequence[int]] | Mapping[str, Sequence[int]]"


@dataclass(frozen=True)
class Several:
    """Inputs of a model.

    Attributes:
        shapes: `(channels, *sides)` of each, by its name or number.
        followed: Which of them is followed; the others are noise, the same at every call.
    """

    shapes: Mapping[str | int, tuple[int, ...]]
    followed: str | int

    @property
    def in_chans(self) -> int:
        """Channels of the input that is followed."""
        return self.shapes[self.followed][0]

    @property
    def size(self) -> tuple[int, ...]:
        """Sides of the input that is followed, in px."""
        return self.shapes[self.followed][1:]

    def run(
        self, forward: Callable[[nn.Module, Any], Any] | None
    ) -> Callable[[nn.Module, Tensor], Any]:
        """How to run a module on the input that is followed.

        Args:
            forward: Runs it on all inputs, a tuple or a dictionary. `None` means to call it with
                them, by their names if they have any.
        """

        def call(module: nn.Module, images: Tensor) -> Any:
            inputs = {key: self._input(key, images) for key in self.shapes}
            if forward is not None:
                return forward(module, inputs if self._are_named else tuple(inputs.values()))
            if self._are_named:
                return module(**{str(key): value for key, value in inputs.items()})
            return module(*inputs.values())

        return call

    @property
    def _are_named(self) -> bool:
        return isinstance(self.followed, str)

    def _input(self, key: str | int, images: Tensor) -> Tensor:
        import torch

        if key == self.followed:
            return images
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, *self.shapes[key], generator=generator)
        return noise.expand(len(images), *noise.shape[1:]).to(images)


def several_inputs(
    input_size: InputSize | Shapes | None, follow: str | int | None
) -> Several | None:
    """The inputs that a user means; None of a single one.

    Raises:
        ValueError: If one is no shape, or it is not said which to follow.
    """
    shapes: dict[Any, Any] = {}
    if isinstance(input_size, Mapping):
        shapes = dict(input_size)
    elif isinstance(input_size, list | tuple) and any(isinstance(n, Sequence) for n in input_size):
        shapes = dict(enumerate(input_size))
    else:
        if follow is not None:
            raise ValueError(f"`follow` needs the shapes of several inputs, but got {follow!r}.")
        return None
    for key, shape in shapes.items():
        is_shape = isinstance(shape, list | tuple)
        if not (is_shape and len(shape) > 1 and all(type(n) is int and n > 0 for n in shape)):
            raise ValueError(
                f"`input_size` must hold shapes (channels, *sides), but got {shape!r} for {key!r}."
            )
    if follow is None or follow not in shapes:
        raise ValueError(
            f"`follow` must name one of the inputs {', '.join(map(repr, shapes))}, but got "
            f"{follow!r}."
        )
    return Several({key: tuple(shape) for key, shape in shapes.items()}, follow)
