"""Weights of a network from a file: a `state_dict`, which is read without running any code."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
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
#: Names that an error lists.
_LISTED = 4


def load_weights(module: nn.Module, path: Path) -> None:
    """Give a network the weights of a file, of safetensors or of `torch.save`.

    Raises:
        ValueError: If there is no such file, it holds no `state_dict`, or one of another network:
            one line with the names that differ.
    """
    found = _read(path)
    own = module.state_dict()
    differ = {
        "lacks": [name for name in own if name not in found],
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


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a `state_dict` as safetensors; what layers share is written twice."""
    own = {name: one.detach().cpu().contiguous().clone() for name, one in weights.items()}
    safetensors.torch.save_file(own, path, metadata={"format": "pt"})


def _read(path: Path) -> dict[str, Tensor]:
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


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"
