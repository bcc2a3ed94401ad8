"""What several commands need: a model and how large its input is, a target, a picture's file."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rfsearch.diagnosis.layer_field import LayerField
    from rfsearch.network.architecture import Architecture
    from rfsearch.target.target import ScaleTarget
    from rfsearch.trace.result import TracedModel

DEFAULT_SIZE = 224
MODEL_HELP = "A timm model's name, or an architecture's JSON file."
SIZE_HELP = "Input in px, as 224 or HEIGHTxWIDTH. By default the timm model's own, or 224."
TARGET_HELP = "Smallest and largest object in px, as 24:96."


@dataclass(frozen=True)
class Subject:
    """A model that a command looks at: an architecture, or a trace of a timm model.

    Attributes:
        name: As the user gave it.
        input_size: `(height, width)` in px.
        architecture: If it is one.
        traced: If it is a model of timm's.
        typed: If it is a file of layers.
    """

    name: str
    input_size: tuple[int, int]
    architecture: Architecture | None = None
    traced: TracedModel | None = None
    typed: tuple[LayerField, ...] = ()

    def layers(self) -> tuple[LayerField, ...]:
        """What each layer sees, first to last."""
        if self.typed:
            return self.typed
        if self.architecture is not None:
            from rfsearch.diagnosis.layer_field import architecture_layers

            return architecture_layers(self.architecture)
        from torch import device

        from rfsearch.diagnosis.traced_layers import traced_layers
        from rfsearch.trace.timm_models import create_model

        assert self.traced is not None
        with device("meta"):
            return traced_layers(self.traced, create_model(self.name))

    def outputs(self) -> tuple[LayerField, ...]:
        """What each output sees."""
        if self.typed:
            return (replace(self.typed[-1], name="output", kind="output"),)
        if self.architecture is not None:
            from rfsearch.diagnosis.layer_field import architecture_outputs

            return architecture_outputs(self.architecture)
        from rfsearch.diagnosis.traced_layers import traced_outputs

        assert self.traced is not None
        return traced_outputs(self.traced)


def load_subject(name: str, input_size: str | None) -> Subject:
    """Read an architecture's file, or trace a timm model.

    Raises:
        ValueError: If the file is no architecture, timm knows no such model, or the model does
            not run at that input size.
    """
    path = Path(name)
    given = parse_size(input_size) if input_size is not None else None
    if path.suffix == ".json" or path.is_file():
        size = given or (DEFAULT_SIZE, DEFAULT_SIZE)
        architecture = read_architecture(path)
        architecture.cost(size)  # Refuses an image that is too small for the network.
        return Subject(name, size, architecture=architecture)
    size = given or _stated_size(name)
    from rfsearch.trace.trace import trace_receptive_field

    return Subject(name, size, traced=trace_receptive_field(name, size))


def read_architecture(path: Path) -> Architecture:
    """Read what `Architecture.to_dict` gives, or a trial's attribute `architecture`, from JSON.

    Raises:
        ValueError: If the file cannot be read, is no JSON or no architecture.
    """
    from rfsearch.basics.files import read_json
    from rfsearch.basics.validation import parse
    from rfsearch.network.architecture import Architecture

    values = read_json(path)
    try:
        if isinstance(values, str):  # A trial's attribute is JSON itself.
            values = json.loads(values)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file ({error}).") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must be an architecture, but holds {json.dumps(values)[:40]}.")
    return parse(Architecture, values, str(path))


def parse_target(text: str) -> ScaleTarget:
    """The target of `--target`.

    Raises:
        ValueError: If it is no range of object sizes.
    """
    from rfsearch.target.target import ScaleTarget

    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--target must be MIN:MAX in px, as 24:96, but got {text!r}.") from None
    return ScaleTarget(low, high)


def of_layer(layers: Sequence[LayerField], name: str | None) -> tuple[LayerField, ...]:
    """The layer of a name and those inside it; all of them for None.

    Raises:
        ValueError: If there is no such layer.
    """
    if name is None:
        return tuple(layers)
    found = tuple(one for one in layers if re.match(re.escape(name) + r"($|[.\[ ])", one.name))
    if not found:
        near = difflib.get_close_matches(name, [one.name for one in layers], n=3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"--layer must be a layer of the model, but got {name!r}{hint}.")
    return found


def parse_size(text: str) -> tuple[int, int]:
    """Height and width in px of `--input-size`.

    Raises:
        ValueError: If it is no size.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(size) < 1:
        raise ValueError(f"--input-size must be SIDE or HEIGHTxWIDTH in px, but got {text!r}.")
    return size


def check_png(path: Path | None, option: str) -> None:
    """Check the file of a picture before any work is done for it.

    Raises:
        ValueError: If it is no PNG file, or in no folder.
    """
    if path is not None and path.suffix.lower() != ".png":
        raise ValueError(f"{option} must name a PNG file, but got {str(path)!r}.")
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"{option} must be in a folder that exists, but {path.parent} does not.")


def _stated_size(name: str) -> tuple[int, int]:
    import timm

    stated = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if stated is None:
        return DEFAULT_SIZE, DEFAULT_SIZE
    height, width = stated.input_size[-2:]
    return height, width
