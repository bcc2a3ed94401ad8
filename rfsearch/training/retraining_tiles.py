"""Training a network that segments or detects to convergence, on the tiles of an experiment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from rfsearch.data.datasets import DetectionData, SegmentationData
from rfsearch.data.device_images import Normalizer
from rfsearch.training._batches import TrainingBatches
from rfsearch.training.config import TrainingConfig
from rfsearch.training.detection import DetectionLesson
from rfsearch.training.segmentation import SegmentationLesson

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.data.augmentation import Batch
    from rfsearch.network.network_folder import InputFormat
    from rfsearch.training.retraining_run import RetrainingConfig

#: Settings that only classifiers have.
_CLASSIFIERS = ("mixup", "cutmix", "label_smoothing")
_FOLDERS = ("valid_share", "split_seed", "min_scale", "color_jitter", "auto_augment")


class TileCourse:
    """Tiles with masks or boxes; see `rfsearch.training.retraining_course.Course`.

    Args:
        data: The tiles.
        form: What the network takes: the images are normalised as it says.
        config: Batch size and variations.
        device: Where to train.
        batch_size: Where `config` does not give one.
        identity: What tells the tiles from others.
        workers: Processes that read tiles that are not kept in memory.

    Raises:
        ValueError: If the images have other channels than the network takes, or a setting is for
            classifiers only.
    """

    def __init__(
        self,
        data: SegmentationData | DetectionData,
        form: InputFormat,
        config: RetrainingConfig,
        *,
        device: torch.device,
        batch_size: int,
        identity: str,
        workers: int | None = None,
    ) -> None:
        _check(data, form, config)
        if "batch_size" in config.loading.model_fields_set:
            batch_size = config.loading.batch_size
        self.identity = f"{identity}, {len(data.train_images)} and {len(data.valid_images)} tiles"
        self.class_names = data.class_names
        mean, std = (255 * torch.tensor(v).reshape(1, -1, 1, 1) for v in (form.mean, form.std))
        self.normalize = Normalizer(mean, std)
        self.data = data
        options = (device, batch_size, workers, self.normalize)
        self.lesson: SegmentationLesson | DetectionLesson
        if isinstance(data, SegmentationData):
            self.metric, self.lesson = "miou", SegmentationLesson(data, *options)
        else:
            self.metric, self.lesson = "ap", DetectionLesson(data, *options)
        as_in_search = TrainingConfig(
            epochs=config.epochs,
            batch_size=batch_size,
            horizontal_flip=config.loading.horizontal_flip,
            seed=config.seed,
        )
        self.order = TrainingBatches(self.lesson.num_images, as_in_search, device)

    def __len__(self) -> int:
        return self.lesson.num_images // self.order.batch_size

    def batches(self, epoch: int) -> Iterable[Batch]:
        """Tiles in an order and varied in a way that the seed and the epoch decide."""
        return self.lesson.load(self.order.epoch(epoch))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The task's loss."""
        return self.lesson.loss(model, batch)

    def score(self, model: nn.Module) -> float:
        """The task's metric on the validation tiles."""
        return self.lesson.evaluate(model).value

    def images(self, number: int) -> Tensor:
        """Normalised validation tiles, or as many as there are."""
        return self.normalize(self.data.valid_images[:number])


def _check(
    data: SegmentationData | DetectionData, form: InputFormat, config: RetrainingConfig
) -> None:
    if data.in_chans != form.in_chans:
        raise ValueError(
            f"The images must have {form.in_chans} channels, which the network takes, but have "
            f"{data.in_chans}."
        )
    given = [name for name in _CLASSIFIERS if name in config.model_fields_set]
    given += [f"loading.{name}" for name in _FOLDERS if name in config.loading.model_fields_set]
    if given:
        raise ValueError(f"Only classifiers are trained with {', '.join(given)}.")
