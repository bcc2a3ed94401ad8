"""How long a network takes to train, measured on a few batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import torch

from rfsearch.training._run import Run

if TYPE_CHECKING:
    from rfsearch.data.augmentation import Examples
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
    run = Run(task.build(candidate), task)
    model, optimizer, device = run.state.model, run.state.optimizer, run.device

    def step(examples: Examples) -> None:
        optimizer.zero_grad()
        run.gradients.add(model, examples)
        optimizer.step()

    model.train()
    update = judged = float("inf")
    for batch in task.load(islice(run.batches.epoch(1), _TIMED)):
        examples = task.examples(batch)
        update = min(update, _seconds(partial(step, examples), device))
    model.eval()
    with torch.inference_mode():
        for _ in range(_TIMED):
            judged = min(judged, _seconds(partial(model, examples.images), device))
    whole = task.num_images * update + len(task.data.valid_images) * judged
    return whole / task.batch_size


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
