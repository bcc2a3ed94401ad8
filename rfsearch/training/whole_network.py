"""A task's whole network in a folder: what timm can load of it, and its head beside that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import safetensors.torch
from safetensors import SafetensorError

from rfsearch.models.timm_models import seeded
from rfsearch.network.network_folder import create_network, load_network, save_network
from rfsearch.training.checkpoints import weights_of
from rfsearch.training.tasks import HEADS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from rfsearch.network.architecture import Architecture
    from rfsearch.network.model import SearchedNetwork
    from rfsearch.network.network_folder import InputFormat

#: The weights of the head, where it is not a part of the searched network.
HEAD_FILE = "head.safetensors"


def create_whole(
    architecture: Architecture, form: InputFormat, weights: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """A task's network, whose searched part is from timm's registry.

    Its weights are random unless they are given.

    Raises:
        ValueError: If the weights are those of another network.
    """
    network = HEADS[form.task].build(create_network(architecture, form), len(form.class_names))
    if weights is not None:
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"The weights do not fit the architecture: {error}") from None
    return network.eval()


def network_to_train(
    exported: nn.Module,
    form: InputFormat,
    class_names: tuple[str, ...],
    seed: int,
    *,
    from_scratch: bool = False,
) -> nn.Module:
    """A network like an exported one, to be trained on images of some classes.

    Args:
        exported: The exported network.
        form: What that takes.
        class_names: Of the images. Where they are others, the layer that tells them apart is new;
            where they are the same in another order, its weights are, too.
        seed: Of random weights.
        from_scratch: Whether all weights are random.
    """
    architecture = searched_part(exported, form.task).architecture
    like = replace(form, class_names=class_names)
    network = seeded(lambda: create_whole(architecture, like), seed)
    if from_scratch:
        return network
    of_classes, weights = HEADS[form.task].classifier, exported.state_dict()
    for name in [name for name in weights if name.startswith(of_classes)]:
        value = weights.pop(name)
        if set(class_names) == set(form.class_names):
            weights[name] = value[[form.class_names.index(one) for one in class_names]]
    network.load_state_dict(weights, strict=False)
    return network


def searched_part(network: nn.Module, task: str) -> SearchedNetwork:
    """The searched network inside of a task's."""
    return cast("SearchedNetwork", network.get_submodule(HEADS[task].place))


def save_whole(network: nn.Module, form: InputFormat, folder: Path) -> None:
    """Write a network that `create_whole` made.

    Args:
        network: The network, on the CPU.
        form: What it takes.
        folder: An existing folder; files of the same names are replaced.
    """
    save_network(searched_part(network, form.task), form, folder)
    if place := HEADS[form.task].place:
        head = {
            name: value
            for name, value in weights_of(network).items()
            if not name.startswith(f"{place}.")
        }
        safetensors.torch.save_file(head, folder / HEAD_FILE, metadata={"format": "pt"})
        (folder / HEAD_FILE).chmod((folder / "config.json").stat().st_mode)


def load_whole(folder: str | Path) -> tuple[nn.Module, InputFormat]:
    """Read what `save_whole` wrote: the network in evaluation mode, and what it takes.

    Raises:
        ValueError: If the folder is none that `rfsearch export` wrote; it names what is wrong.
    """
    folder = Path(folder)
    searched, form = load_network(folder)
    if form.task not in HEADS:
        raise ValueError(
            f"{folder}: `task` must be one of {', '.join(HEADS)}, but got {form.task!r}."
        )
    place, build = HEADS[form.task].place, HEADS[form.task].build
    if not place:
        return searched, form
    network = build(searched, len(form.class_names))
    file = folder / HEAD_FILE
    try:
        head = safetensors.torch.load_file(file)
        network.load_state_dict(
            {f"{place}.{name}": value for name, value in searched.state_dict().items()} | head
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file}: the head cannot be read ({reason}).") from None
    return network.eval(), form
