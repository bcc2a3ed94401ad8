"""Copies of a model that share nothing with it: with its data, or without any.

What runs on a copy leaves the model alone, and so it leaves what the model's hooks write to: a
hook of a copy has lists and dictionaries of its own.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import CellType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

#: Types of the tables that every module holds.
_TABLES = (dict, OrderedDict, set)
#: Tables of a module that hold functions.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
#: What runs a module elsewhere or in another way, and where it holds that.
_WRAPPERS = {nn.DataParallel: "module", DistributedDataParallel: "module"}


def copied(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, on the same device.

    Raises:
        ValueError: If the module cannot be copied; it says what to remove.
    """
    return _copied(module, {})


def without_data(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters have no data; small buffers keep theirs.

    Raises:
        ValueError: If the module cannot be copied; it says what to remove.
    """
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        data = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(data, requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = _buffer_twin(buffer)
    return _copied(module, memo)


def unwrapped(module: nn.Module) -> nn.Module:
    """What `torch.compile`, `DataParallel` or `DistributedDataParallel` was given."""
    while True:
        compiled: nn.Module | None = getattr(module, "_orig_mod", None)
        holder = next((at for kind, at in _WRAPPERS.items() if isinstance(module, kind)), None)
        if compiled is not None:
            module = compiled
        elif holder is not None:
            module = module.get_submodule(holder)
        else:
            return module


def _copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    module = unwrapped(module)
    for name, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            place = f" (layer `{name}`)" if name else ""
            raise ValueError(
                f"The model must be made of plain modules, but holds TorchScript{place}: pass "
                "what `torch.jit` was given."
            )
        # A dozen empty tables of hooks per module would take most of the copy's time.
        tables = (value for value in vars(child).values() if type(value) in _TABLES)
        memo.update((id(table), type(table)()) for table in tables if not table)
    try:
        with _Detached():
            # The inner ones first: an outer one's copy then holds theirs.
            for child in reversed(list(module.modules())):
                if unwrapped(child) is not child:
                    memo[id(child)] = copy.deepcopy(unwrapped(child), memo)
            twin = copy.deepcopy(module, memo)
    except Exception as error:  # Whatever a copy of the user's own classes raises.
        raise ValueError(f"The model must allow a copy, but: {_one_line(error)}") from error
    for child in twin.modules():
        for table in _HOOKS:
            hooks = vars(child)[table]
            hooks.update((key, _of_its_own(hook, memo)) for key, hook in list(hooks.items()))
    return twin.eval()


class _Detached(TorchFunctionMode):
    """Lets tensors with a history be copied, which torch refuses, without it.

    Modules hold such tensors where a weight is made of others (pruning, weight normalisation), or
    where an output was kept.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))


def _of_its_own(hook: Callable[..., Any], memo: Mapping[int, Any]) -> Callable[..., Any]:
    """A function with containers of its own in place of those outside that it may write to.

    Bound methods and partial functions were copied with the module.
    """
    if not isinstance(hook, FunctionType):
        return hook
    used = {
        name: hook.__globals__[name] for name in hook.__code__.co_names if name in hook.__globals__
    }
    own = {name: _kept_apart(value, memo) for name, value in used.items()}
    function = FunctionType(
        hook.__code__,
        {**hook.__globals__, **own},
        hook.__name__,
        hook.__defaults__,
        tuple(_cells(hook, memo)),
    )
    function.__kwdefaults__ = hook.__kwdefaults__
    return function


def _cells(hook: FunctionType, memo: Mapping[int, Any]) -> Iterator[CellType]:
    for cell in hook.__closure__ or ():
        try:
            yield CellType(_kept_apart(cell.cell_contents, memo))
        except ValueError:  # It is empty.
            yield cell


def _kept_apart(value: Any, memo: Mapping[int, Any]) -> Any:
    """A container that holds the same, an object whose containers do, or the value itself."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, dict | list | set):
        return copy.copy(value)
    if isinstance(value, type | ModuleType | FunctionType | nn.Module | Tensor):
        return value
    if not getattr(value, "__dict__", None):
        return value
    with suppress(Exception):  # What cannot be copied stays what it is.
        twin = copy.copy(value)
        for name, held in vars(twin).items():
            if isinstance(held, dict | list | set):
                vars(twin)[name] = copy.copy(held)
        return twin
    return value


def _buffer_twin(buffer: Tensor) -> Tensor:
    # Indices have to be known; statistics and filters do not.
    if buffer.is_floating_point() or buffer.is_meta:
        return torch.empty_like(buffer, device="meta")
    return buffer.detach().cpu().clone()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
