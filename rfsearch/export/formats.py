"""A network in formats that need no rfsearch: `torch.export` and ONNX, checked against the module.

Both take any number of images at once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import Dim

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

#: Largest difference that passes, as a share of the largest score: rounding, in another order.
TOLERANCE = 1e-4
#: Name of the input in the ONNX file.
INPUT_NAME = "images"
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Check that the packages that write and run ONNX are there.

    Raises:
        ValueError: If one is missing; it says what to install.
    """
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"model.onnx needs {' and '.join(missing)}: pip install 'rfsearch[export]', "
            "or leave it out with --no-onnx."
        )


def export_program(
    model: nn.Module,
    images: Tensor,
    file: Path,
    outputs: Sequence[str] = ("scores",),
    roots: Collection[str] = (),
) -> float:
    """Write what `torch.export.load(FILE).module()` reads.

    Args:
        model: The network in evaluation mode, which gives one tensor or several.
        images: Normalised images `(images, channels, height, width)` to check with.
        file: Where to; its name ends in `.pt2`.
        outputs: Names of the tensors that the network gives.
        roots: Which of them are square roots. They are judged by their squares: near 0 a root
            makes any rounding large.

    Returns:
        Largest difference between what the file gives and what the module gives.

    Raises:
        RuntimeError: If they differ by more than rounding.
    """
    torch.export.save(_trace(model, images), file)
    loaded = torch.export.load(file).module()
    with torch.inference_mode():
        return _largest_difference(model, images, loaded, file, [n in roots for n in outputs])


def export_onnx(
    model: nn.Module,
    images: Tensor,
    file: Path,
    outputs: Sequence[str] = ("scores",),
    roots: Collection[str] = (),
) -> float:
    """Write an ONNX file, with its weights inside.

    Arguments, result and errors are those of `export_program`.
    """
    import onnxruntime

    torch.onnx.export(
        _trace(model, images),
        f=file,
        input_names=[INPUT_NAME],
        output_names=list(outputs),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(batch: Tensor) -> tuple[Tensor, ...]:
        found = session.run(list(outputs), {INPUT_NAME: batch.numpy()})
        return tuple(map(torch.from_numpy, found))

    with torch.inference_mode():
        return _largest_difference(model, images, run, file, [n in roots for n in outputs])


def _trace(model: nn.Module, images: Tensor) -> ExportedProgram:
    """The network's operations, for any number of images.

    Example inputs end up in the file, where nobody's images should be; there are two, as one
    would fix the number of images at one. The paths of the modules on this machine are left out.
    """
    example = images.new_zeros(2, *images.shape[1:])
    program = torch.export.export(model, (example,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _largest_difference(
    model: nn.Module,
    images: Tensor,
    other: Callable[[Tensor], Any],
    file: Path,
    are_roots: Sequence[bool],
) -> float:
    """Compare on all images at once, and on one alone."""
    largest = 0.0
    for batch in (images, images[:1]):
        pairs = zip(_tensors(model(batch)), _tensors(other(batch)), strict=True)
        for (expected, found), is_root in zip(pairs, are_roots, strict=True):
            largest = max(largest, float((found - expected).abs().max()))
            judged, given = (expected.square(), found.square()) if is_root else (expected, found)
            difference = float((given - judged).abs().max())
            allowed = TOLERANCE * max(1.0, float(judged.abs().max()))
            if not difference <= allowed:
                raise RuntimeError(
                    f"What {file.name} gives must be what the module gives, but differs by "
                    f"{difference:g}{' (squared)' if is_root else ''} for {len(batch)} image(s), "
                    f"where {allowed:g} is allowed."
                )
    return largest


def _tensors(outputs: Any) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)
