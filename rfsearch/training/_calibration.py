"""Batch statistics of a network whose strides or dilations are not those it was trained with."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from rfsearch.training._batches import TrainingBatches

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.training._run import Trainable

#: Batches that the statistics are the mean of.
_BATCHES = 16


def calibrate(model: nn.Module, task: Trainable) -> None:
    """Take the statistics of all batch normalisations anew from training images.

    Weights stay as they are.

    Args:
        model: The network with the task's head, on the task's device; left in evaluation mode.
        task: Whose images to take.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # The mean of all batches.
    axes = len(task.input_size)
    batches = TrainingBatches(task.num_images, task.training, task.training_device, axes)
    model.train()
    with torch.no_grad():
        for batch in task.load(islice(batches.epoch(1), _BATCHES)):
            task.loss(model, task.examples(batch))  # Some networks want the truth, too.
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.eval()
