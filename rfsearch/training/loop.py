"""The one training loop, for all tasks and budgets, on CPU and CUDA."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from rfsearch.data.loading_errors import loading_errors
from rfsearch.training._run import Run, best_of
from rfsearch.training.scores import ScaleScores

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.training._run import Trainable
    from rfsearch.training.checkpoints import Checkpoint, Epoch


class TrainingResult(NamedTuple):
    """What training gave.

    Attributes:
        score: The task's metric on the validation images: after the last epoch, or the best one
            where the best weights are kept.
        epochs: Epochs begun; the last one may be incomplete.
        seconds: Time of training and validation.
        by_scale: The score of small, medium and large objects.
        ap50: Average precision at an overlap of 50 %, for detection.
        halved: Whether the batches did not fit into memory and were halved, gradients added up.
        history: The epochs, those before an interruption included; the first is number 0, before
            training, where the best weights are kept.
    """

    score: float
    epochs: int
    seconds: float
    by_scale: ScaleScores = ScaleScores()
    ap50: float = math.nan
    halved: bool = False
    history: tuple[Epoch, ...] = ()

    @property
    def best(self) -> Epoch:
        """The first epoch with the highest score."""
        return best_of(self.history)


def train(
    model: nn.Module,
    task: Trainable,
    *,
    report: Callable[[Epoch], None] | None = None,
    checkpoint: Checkpoint | None = None,
    after_batch: Callable[[], None] | None = None,
) -> TrainingResult:
    """Train a network in place: afterwards it has the weights that the score is of.

    Where weights are averaged, the averaged ones are judged and kept. Where the best are kept,
    those of before the first epoch count, too.

    The same network, seed, images, device and versions give the same scores bit for bit on a CPU
    with the same number of threads, in one go or with interruptions: all that is random in an
    epoch is drawn from the seed and the epoch, and the global random numbers are left as they
    were. On CUDA all of that is the same, but some kernels add up in any order, and so scores may
    differ by rounding. A budget in seconds ends when it ends.

    A batch that does not fit into memory is halved, and so are those after it; the gradients of
    the halves add up to those of the batch (`rfsearch.data.device_memory.Gradients`).

    The host looks at what the device has computed at the end of each epoch only, so that the
    device need not wait for it.

    Args:
        model: A network that the task knows how to use.
        task: What to learn, how to judge it, the budget and the device.
        report: Called after each epoch that was trained. An exception it raises ends the
            training.
        checkpoint: Written after each epoch; if there is one already, training goes on from it,
            and `report` is called for its epochs first.
        after_batch: Called whenever a network has seen a batch, for training or validation. An
            exception it raises ends the training there.

    Raises:
        FloatingPointError: If the loss is not finite.
        LoadingError: If images cannot be read, or what reads them has ended.
        torch.OutOfMemoryError: If halves of batches do not fit into memory either.
        ValueError: If the checkpoint cannot be gone on from, and has an identity.
    """
    run = Run(model, task)
    with loading_errors(), _called_after_each_batch(run, after_batch):
        if checkpoint is not None and checkpoint.load(run.state):
            run.go_on()
            for epoch in run.history:
                if epoch.number and report is not None:
                    report(epoch)
        elif task.training.keep_best:
            run.note(0, math.nan)
        while run.share < 1:
            number = run.epochs + 1
            run.note(number, run.train_epoch(number))
            if checkpoint is not None:
                checkpoint.save(run.state)
            if report is not None:
                report(run.history[-1])
        scores = run.end()
    return TrainingResult(
        scores.value,
        run.epochs,
        run.seconds,
        scores.by_scale,
        scores.ap50,
        run.gradients.halved,
        run.history,
    )


@contextmanager
def _called_after_each_batch(run: Run, after_batch: Callable[[], None] | None) -> Iterator[None]:
    networks = [run.state.model]
    if run.state.averaged is not None:
        networks.append(run.state.averaged)

    def call(*_: object) -> None:
        if after_batch is not None:
            after_batch()

    hooks = [network.register_forward_hook(call) for network in networks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
