"""Weights of a network from a file: a `state_dict`, which is read without running any code."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor

from rfsearch.basics.files import open_file

if TYPE_CHECKING:
    from torch import nn

#: Under which keys training scripts keep the weights beside other things.
_KEYS = ("state_dict", "model", "model_state_dict", "weights")
#: What `DataParallel`, `torch.compile` and Lightning put before all names.
_PREFIXES = ("module.", "_orig_mod.", "model.")
#: Which files of before have not, and torch does without.
_COUNTED = ".num_batches_tracked"
#: Names that an error lists.
_LISTED = 4


def load_weights(module: nn.Module, path: Path) -> None:
    """Give a network the weights of a file; see `read_weights` and `give_weights`."""
    give_weights(module, read_weights(path), path)


def give_weights(module: nn.Module, found: Mapping[str, Tensor], path: Path) -> None:
    """Give a network weights by their names.

    Args:
        module: The network, which is changed.
        found: Its weights; a training may have put a prefix before all names.
        path: Where they come from.

    Raises:
        ValueError: If they are of another network: one line with the names that differ.
    """
    own = module.state_dict()
    found = _as_named(found, own)
    differ = {
        "lacks": [name for name in own if name not in found and not name.endswith(_COUNTED)],
        "has besides": [name for name in found if name not in own],
        "has in another shape": [
            f"{name} {tuple(found[name].shape)} for {tuple(value.shape)}"
            for name, value in own.items()
            if name in found and found[name].shape != value.shape
        ],
    }
    told = [f"{how} {_listed(names)}" for how, names in differ.items() if names]
    if told:
        raise ValueError(f"{path}: must hold the weights of the network, but {', '.join(told)}.")
    module.load_state_dict(found)


def classes_of(module: Any, weights: Mapping[str, Tensor]) -> int | None:
    """Outputs of the classifier that weights are for; None if that is not to be seen.

    Args:
        module: The network, with a classifier of any number of outputs.
        weights: By their names.
    """
    if not hasattr(module, "get_classifier") or not hasattr(module, "reset_classifier"):
        return None
    own = module.get_classifier()
    name = next((name for name, one in module.named_modules() if one is own), None)
    if name is None or not hasattr(own, "weight"):
        return None
    value = _as_named(weights, module.state_dict()).get(f"{name}.weight")
    return 0 if value is None else len(value)


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a `state_dict` as safetensors; what layers share is written twice."""
    own = {name: one.detach().cpu().contiguous().clone() for name, one in weights.items()}
    safetensors.torch.save_file(own, path, metadata={"format": "pt"})


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file by their names, which is read without running any code.

    Args:
        path: A file of safetensors or of `torch.save`: a `state_dict`, or a dictionary that holds
            one.

    Raises:
        ValueError: If there is no such file, or it holds no `state_dict`.
    """
    with open_file(path) as file:
        try:
            if path.suffix == ".safetensors":
                return safetensors.torch.load_file(path)
            with warnings.catch_warnings(action="ignore"):
                content: Any = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # A damaged file can raise anything.
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise ValueError(
                f"{path}: must hold a state_dict, of safetensors or of torch.save, but cannot be "
                f"read as one ({reason[:120].rstrip('. ')})."
            ) from None
    for key in _KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    is_named = isinstance(content, Mapping)
    if not is_named or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError(
            f"{path}: must hold a state_dict, tensors by name, but holds a "
            f"{type(content).__name__}."
        )
    return dict(content)


def _as_named(weights: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Weights by a network's own names, where it was wrapped or compiled while it was trained."""
    for prefix in _PREFIXES:
        if not any(name in own for name in weights) and all(
            one.startswith(prefix) for one in weights
        ):
            return _as_named({name.removeprefix(prefix): weights[name] for name in weights}, own)
    return dict(weights)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"
