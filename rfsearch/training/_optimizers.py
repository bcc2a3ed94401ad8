"""Optimisers and schedules of learning rates, by their names in timm."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    list_optimizers,
    param_groups_weight_decay,
)
from timm.scheduler import create_scheduler_v2
from torch import nn

from rfsearch.models.timm_models import nearest
from rfsearch.retrofit.pretrained import learned

if TYPE_CHECKING:
    from rfsearch.training.config import TrainingConfig

#: Steps of the learning-rate schedule; a budget in seconds has no number of updates of its own.
TICKS = 10_000
#: timm's, without `"plateau"`, which goes by scores and not by what is left of the budget.
_SCHEDULERS = ("cosine", "tanh", "step", "multistep", "poly", "none")
#: Side of the image that an optimiser is tried on, in px.
_SIDE = 4


def make_optimizer(
    model: nn.Module, config: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser of a training."""
    made: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt=config.optimizer,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        param_group_fn=partial(_groups, config) if learned(model) else None,
        **fused(config.optimizer, device),
    )
    return made


def _groups(config: TrainingConfig, model: nn.Module) -> list[dict[str, Any]]:
    """What is learned already apart, with its share of the learning rate."""
    before = {id(one) for one in learned(model)}
    groups = []
    for group in param_groups_weight_decay(model, config.weight_decay):
        for is_learned, share in ((False, 1.0), (True, config.learned_rate)):
            chosen = [one for one in group["params"] if (id(one) in before) == is_learned]
            rate = config.learning_rate * share
            # Schedules of timm give each group the same rate times `lr_scale`.
            groups.append(group | {"params": chosen, "lr": rate, "lr_scale": share})
    return [group for group in groups if group["params"]]


def fused(optimizer: str, device: torch.device) -> dict[str, Any]:
    """On CUDA, one kernel for all weights where the optimiser has one."""
    kind = get_optimizer_class(optimizer, bind_defaults=False)
    if device.type == "cuda" and "fused" in inspect.signature(kind).parameters:
        return {"fused": True}
    return {}


def make_scheduler(optimizer: torch.optim.Optimizer, config: TrainingConfig) -> Any:
    """The schedule of the learning rate, which goes through `TICKS` steps; None for `"none"`."""
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=config.scheduler,
        num_epochs=100,
        updates_per_epoch=TICKS // 100,
        warmup_epochs=round(100 * config.warmup),
        warmup_lr=config.learning_rate / 100,
        step_on_epochs=False,
    )
    return scheduler


def without_compiling() -> AbstractContextManager[Any]:
    """Run inside what some optimisers would compile at their first step, for minutes."""
    context: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return context


def check_names(config: TrainingConfig, device: torch.device) -> None:
    """Try optimiser and schedule on a tiny network, where they are not the defaults.

    Raises:
        ValueError: If there is no such optimiser or schedule, or it does not work here, as those
            that need another package, a GPU, or second derivatives.
    """
    usual = type(config).model_fields
    if config.optimizer != usual["optimizer"].default:
        _try("optimizer", config.optimizer, list_optimizers(), lambda: _step(config, device))
    if config.scheduler != usual["scheduler"].default:
        adam = torch.optim.Adam([torch.zeros(1)])
        _try("scheduler", config.scheduler, _SCHEDULERS, lambda: make_scheduler(adam, config))


def _try(key: str, name: str, known: Any, run: Callable[[], Any]) -> None:
    reason = f"there is none of this name{nearest(name, known)}"
    if name in known:
        try:
            with warnings.catch_warnings(action="ignore"):
                run()
            return
        except Exception as error:  # Whatever an optimiser of another package raises.
            reason = next(iter(str(error).splitlines()), type(error).__name__)
    raise ValueError(
        f"training: `{key}` must be one of timm's that works here, but got {name!r}: {reason}."
    )


def _step(config: TrainingConfig, device: torch.device) -> None:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(2)).to(device)
        images = torch.randn(2, 1, _SIDE, _SIDE, device=device)
        network(images)
        optimizer = make_optimizer(network, config, device)
        network(images).square().sum().backward()
        with without_compiling():
            optimizer.step()
