"""Training a network to convergence: timm's optimisers, schedules, mixup and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from timm.utils import random_seed

from rfsearch.training.heads import HEADS
from rfsearch.training.retraining_run import EpochResult, RetrainingConfig, Run
from rfsearch.training.whole_network import create_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.network.architecture import Architecture
    from rfsearch.network.network_folder import InputFormat
    from rfsearch.training.retraining_course import Course


@dataclass(frozen=True)
class RetrainingResult:
    """What retraining gave.

    Attributes:
        history: The epochs, also those before an interruption.
        best: The epoch with the best averaged weights.
        weights: Those weights, on the CPU.
    """

    history: tuple[EpochResult, ...]
    best: EpochResult
    weights: dict[str, Tensor]


def starting_network(
    exported: nn.Module,
    architecture: Architecture,
    form: InputFormat,
    class_names: tuple[str, ...],
    seed: int,
    *,
    from_scratch: bool = False,
) -> tuple[nn.Module, InputFormat]:
    """The network to train, and what it takes.

    Args:
        exported: The exported network.
        architecture: Its own.
        form: What that takes.
        class_names: Of the images to train on. Where they are others, the layer that tells them
            apart is new; where they are the same in another order, its weights are, too.
        seed: Of random weights.
        from_scratch: Whether all weights are random.
    """
    random_seed(seed)
    new_form = replace(form, class_names=class_names)
    model = create_whole(architecture, new_form)
    if from_scratch:
        return model, new_form
    of_classes = HEADS[form.task].classifier
    weights = exported.state_dict()
    for name in [name for name in weights if name.startswith(of_classes)]:
        value = weights.pop(name)
        if set(class_names) == set(form.class_names):
            weights[name] = value[[form.class_names.index(one) for one in class_names]]
    model.load_state_dict(weights, strict=False)
    return model, new_form


def retrain(
    model: nn.Module,
    course: Course,
    config: RetrainingConfig,
    checkpoint: Path,
    *,
    device: torch.device,
    report: Callable[[EpochResult], None],
) -> RetrainingResult:
    """Train a network in place, or go on from a checkpoint.

    The best weights are those with the best score among the averaged weights after each epoch
    and the weights before the first. On CUDA it computes in bfloat16. It
    seeds the global random generators of torch, numpy and Python for each epoch, so that on a
    CPU without worker processes an interrupted training ends as one in one go.

    Args:
        model: The network.
        course: What to train it on.
        config: Budget, optimiser and regularisation.
        checkpoint: Written after each epoch and gone on from if it exists. The caller removes
            it once the result is safe.
        device: Where to train.
        report: Called after each epoch.

    Raises:
        ValueError: If the checkpoint cannot be read or is that of another training.
        FloatingPointError: If the loss is not finite.
    """
    run = Run(model, course, config, device)
    if checkpoint.exists():
        run.restore(checkpoint)
    else:
        score = run.evaluate(model)
        run.record(EpochResult(0, math.nan, score, score))
    for epoch in range(len(run.history), config.epochs + 1):
        random_seed(config.seed, epoch)
        loss = run.train_epoch(epoch)
        if not math.isfinite(loss):
            raise FloatingPointError(f"The training loss is {loss} in epoch {epoch}.")
        run.record(EpochResult(epoch, loss, run.evaluate(model), run.evaluate(run.ema.module)))
        run.save(checkpoint)
        report(run.history[-1])
    return RetrainingResult(tuple(run.history), run.best, run.best_weights)
