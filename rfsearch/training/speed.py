"""How long a network takes to train, measured on a few batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

import torch

from rfsearch.data.device_images import network_format
from rfsearch.data.device_memory import Gradients
from rfsearch.training._batches import TrainingBatches
from rfsearch.training._optimizers import make_optimizer

if TYPE_CHECKING:
    from rfsearch.models.resolve import Built
    from rfsearch.training.task import Task

#: Batches that are timed; the first one also prepares kernels.
_TIMED = 3


def epoch_seconds(task: Task, candidate: Built) -> float:
    """Time of one pass over the training images and of judging, with the task's own head.

    Args:
        task: The images, the head and the device.
        candidate: What `Task.build` takes.
    """
    device = task.training_device
    model = task.build(candidate)
    model.to(memory_format=network_format(model, device)).train()
    optimizer = make_optimizer(model, task.training, device)
    gradients = Gradients(task)
    axes = len(task.input_size)
    batches = TrainingBatches(task.num_images, task.training, device, axes).epoch(1)
    update = judged = float("inf")
    for batch in task.load(islice(batches, _TIMED)):
        examples = task.examples(batch)

        def step() -> None:
            optimizer.zero_grad()
            gradients.add(model, examples)  # noqa: B023  # Called at once.
            optimizer.step()

        update = min(update, _seconds(step, device))
    model.eval()
    with torch.inference_mode():
        for _ in range(_TIMED):
            judged = min(judged, _seconds(lambda: model(examples.images), device))
    whole = task.num_images * update + len(task.data.valid_images) * judged
    return whole / task.batch_size


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
