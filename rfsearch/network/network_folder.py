"""A trained network as a folder that timm can load, and back.

`model.safetensors` and `config.json` are what timm's `local-dir:` reads; `architecture.json` is
what `Architecture.to_dict` gives. None of them holds code. Of a network for another task than
classification they hold what was searched, without its head (`rfsearch.training.tasks`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
from safetensors import SafetensorError
from timm.models import save_for_hf

from rfsearch.basics.files import read_json
from rfsearch.basics.limits import MAX_SIDE
from rfsearch.network.timm_entry import ENTRY, RESIZING

if TYPE_CHECKING:
    from rfsearch.network.architecture import Architecture
    from rfsearch.network.model import SearchedNetwork


#: The task whose head timm's networks have.
CLASSIFICATION = "classification"
#: What timm calls the file with the weights.
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class InputFormat:
    """What a network takes, and what its scores mean.

    Attributes:
        input_size: `(height, width)` of the images in px.
        mean: To subtract from each channel of images from 0 to 1.
        std: To divide each channel by after that.
        class_names: One name for each score.
        task: What the scores are of: a name in `rfsearch.training.tasks.HEADS`.
        scale: By what images are resized before tiles of `input_size` are cut out of them.
            Classifiers resize each image to `input_size` instead.
    """

    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    task: str = CLASSIFICATION
    scale: float = 1.0

    @property
    def in_chans(self) -> int:
        """Channels of an image."""
        return len(self.mean)

    @property
    def num_scores(self) -> int:
        """Outputs of the searched network's own classifier; 0 where another head is on it."""
        return len(self.class_names) if self.task == CLASSIFICATION else 0


def create_network(architecture: Architecture, form: InputFormat) -> SearchedNetwork:
    """A network from timm's registry, with random weights."""
    model: SearchedNetwork = timm.create_model(
        ENTRY,
        architecture=architecture.to_dict(),
        in_chans=form.in_chans,
        num_classes=form.num_scores,
    )
    return model.eval()


def save_network(model: SearchedNetwork, form: InputFormat, folder: Path) -> None:
    """Write a network that `create_network` made as timm reads it.

    Args:
        model: The network, on the CPU.
        form: What it takes.
        folder: An existing folder; files of the same names are replaced.
    """
    whole: Any = model
    takes = {"input_size": (form.in_chans, *form.input_size), "mean": form.mean, "std": form.std}
    whole.pretrained_cfg = {**whole.pretrained_cfg, **takes, **RESIZING}
    save_for_hf(
        model.to("cpu"),
        folder,
        model_config={
            "label_names": list(form.class_names),
            "task": form.task,
            "scale": form.scale,
        },
        model_args={"architecture": model.architecture.to_dict()},
        safe_serialization=True,
    )
    # safetensors lets nobody but the owner read its files.
    (folder / WEIGHTS_FILE).chmod((folder / "config.json").stat().st_mode)
    text = json.dumps(model.architecture.to_dict(), indent=2)
    (folder / "architecture.json").write_text(text + "\n", encoding="utf-8")


def load_network(folder: Path) -> tuple[SearchedNetwork, InputFormat]:
    """Read what `save_network` wrote.

    Raises:
        ValueError: If the folder is none that `rfsearch export` wrote; it names what is wrong.
    """
    form = _input_format(folder / "config.json")
    if not (folder / WEIGHTS_FILE).is_file():
        raise ValueError(f"{folder}: there are no weights ({WEIGHTS_FILE}).")
    try:
        model: SearchedNetwork = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except (RuntimeError, TypeError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder}: the network cannot be read ({reason}).") from None
    return model.eval(), form


def _input_format(file: Path) -> InputFormat:
    try:
        config = read_json(file)
    except ValueError as error:
        raise ValueError(f"{error} Give a folder of `rfsearch export`.") from None
    if not isinstance(config, dict) or config.get("architecture") != ENTRY:
        raise ValueError(f"{file}: not the configuration of a network that rfsearch exported.")
    try:
        stated = config["pretrained_cfg"]
        _, height, width = stated["input_size"]
        form = InputFormat(
            (height, width),
            tuple(stated["mean"]),
            tuple(stated["std"]),
            tuple(config["label_names"]),
            str(config["task"]),
            float(config["scale"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: incomplete ({error!r}).") from None
    for side in form.input_size:
        if type(side) is not int or not 1 <= side <= MAX_SIDE:
            raise ValueError(
                f"{file}: images must have sides of 1 to {MAX_SIDE} px, but got {side!r}."
            )
    return form
