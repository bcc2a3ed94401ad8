"""Measured latency and peak memory of a network's forward pass on a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from rfsearch.basics.axes import InputSize
from rfsearch.basics.limits import MAX_BATCH_SIZE, MAX_TIMED_SECONDS
from rfsearch.measure._memory import check_fits, cuda_peak, out_of_memory, tracked_peak
from rfsearch.measure.device import check_device
from rfsearch.models.resolve import Model, resolve_model
from rfsearch.models.resolved import ResolvedModel

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.benchmark import Measurement, Timer

_MIB = 2**20
#: The time is measured in so many parts, so that there is a spread to report.
_PARTS = 5


@dataclass(frozen=True)
class BatchLatency:
    """What forward passes of batches of one size took.

    Attributes:
        batch_size: Images in a batch.
        median_ms: Median time of a warm forward pass, in ms per batch.
        iqr_ms: Interquartile range, in ms, over blocks of passes that were timed together.
        num_runs: Forward passes that were timed.
        peak_memory_mb: Largest memory of tensors during a pass, in MiB.
    """

    batch_size: int
    median_ms: float
    iqr_ms: float
    num_runs: int
    peak_memory_mb: float

    @property
    def images_per_second(self) -> float:
        """Images in a second at the median time."""
        return 1000 * self.batch_size / self.median_ms


@dataclass(frozen=True)
class Latency:
    """Latency and peak memory of one network on one device.

    Attributes:
        batches: The results, one for each batch size, in the order asked for.
        input_size: Sides of the images in px.
        device: Name of the device, with the number of threads of a CPU.
        dtype: What the network computes in, such as `"float32"`.
    """

    batches: tuple[BatchLatency, ...]
    input_size: tuple[int, ...]
    device: str
    dtype: str

    @property
    def latency_ms(self) -> float:
        """Median time of the first batch size, in ms."""
        return self.batches[0].median_ms

    @property
    def peak_memory_mb(self) -> float:
        """Peak memory of the first batch size, in MiB."""
        return self.batches[0].peak_memory_mb


def measure_latency(
    model: Model,
    input_size: InputSize,
    batch_sizes: Sequence[int] = (1, 32),
    *,
    in_chans: int | None = None,
    device: torch.device | str | None = None,
    min_seconds: float = 0.5,
) -> Latency:
    """Time forward passes of noise through a network, and see how much memory they need.

    The model runs as it is, in its dtype and memory format and without gradients, but in
    evaluation mode; it is left in the mode and on the device it was found. The first passes only
    warm up. CUDA is synchronised around the timed blocks. Other work on the device makes the
    result larger; the interquartile range shows it.

    Peak memory counts the weights, the input and the tensors that are alive at the same time. On
    CUDA it is what `torch.cuda.max_memory_allocated` says of a pass, work space of the kernels
    included, without what else the process holds. A CPU has no such counter: there it is what
    torch's `MemTracker` sees of the operations' results; work space inside an operation is not
    included, and neither is memory that the allocator keeps in reserve.

    Args:
        model: Any module that takes images `(batch, channels, *input_size)`, which is timed as
            it is, compiled or scripted if it is; a timm name; an architecture; or the path of an
            exported network's folder.
        input_size: Sides of the images in px, as for `trace_receptive_field`.
        batch_sizes: Images in a batch; each size is measured by itself.
        in_chans: Channels of the images. None means those that the first layer with weights turns
            out to take.
        device: Where to measure. None means where the model is.
        min_seconds: Time each batch size for at least so long.

    Raises:
        ValueError: If timm knows no such model, a size or time is not positive or beyond measure,
            or the model does not run at that size or does not fit into the memory.
    """
    if not batch_sizes or not all(1 <= count <= MAX_BATCH_SIZE for count in batch_sizes):
        raise ValueError(
            f"`batch_sizes` must be one or more numbers from 1 to {MAX_BATCH_SIZE:,}, "
            f"but got {tuple(batch_sizes)}."
        )
    if not 0 < min_seconds <= MAX_TIMED_SECONDS:
        raise ValueError(
            f"`0 < min_seconds <= {MAX_TIMED_SECONDS}` must hold, but got {min_seconds}."
        )
    check_device(device)
    resolved = resolve_model(model, input_size, in_chans=in_chans, num_classes=1000)
    module = resolved.module
    with _ready(module, device) as like, _current(like.device), torch.inference_mode():
        for count in batch_sizes:
            check_fits(resolved, like.device, _call, count=count)
        with out_of_memory(resolved, like.device):
            results = tuple(_measure(resolved, like, count, min_seconds) for count in batch_sizes)
    dtype = str(like.dtype).partition(".")[2]
    return Latency(results, resolved.input_size, _name(like.device), dtype)


def _call(module: nn.Module, images: Tensor) -> Any:
    return module(images)


def time_one_image(model: nn.Module, input_size: tuple[int, ...]) -> Latency:
    """Time a network of a search where it is, for a tenth of a second."""
    return measure_latency(model, input_size, (1,), min_seconds=0.1)


def peak_memory(model: ResolvedModel) -> float:
    """Peak memory in MiB of a pass of one image, as `measure_latency` counts it, without its time.

    Raises:
        ValueError: If the model does not run, or does not fit into the memory.
    """
    with _ready(model.module, None) as like, _current(like.device), torch.inference_mode():
        check_fits(model, like.device, _call)
        with out_of_memory(model, like.device):
            return _peak(model, like, 1) / _MIB


@contextmanager
def _ready(module: nn.Module, device: torch.device | str | None) -> Iterator[Tensor]:
    """A tensor of the model's dtype and device, while the model is there in evaluation mode."""
    training = {part: part.training for part in module.modules()}
    like = next(module.parameters(), torch.empty(0))
    try:
        module.eval().to(device or like.device)
        yield next(module.parameters(), like.to(device or like.device))
    finally:
        module.to(like.device)
        for part, mode in training.items():
            part.training = mode


def _current(device: torch.device) -> AbstractContextManager[object]:
    """What torch's timer and counters look at is the current CUDA device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _peak(model: ResolvedModel, like: Tensor, count: int) -> float:
    """Bytes that a warm pass needs."""
    module, shape = model.module, (count, model.in_chans, *model.input_size)
    measure_peak = cuda_peak if like.device.type == "cuda" else tracked_peak
    try:
        module(_noise(like, shape))  # What is set up once is neither timed nor counted.
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Whatever a model raises.
        raise model.failure(error) from error
    return measure_peak(module, lambda: _noise(like, shape))


def _measure(model: ResolvedModel, like: Tensor, count: int, min_seconds: float) -> BatchLatency:
    from torch.utils.benchmark import Measurement, Timer

    peak = _peak(model, like, count)
    images = _noise(like, (count, model.in_chans, *model.input_size))
    timer = Timer(
        "module(images)",
        globals={"module": model.module, "images": images},
        num_threads=torch.get_num_threads(),
    )
    parts = _timed(timer, min_seconds)
    timed = Measurement.merge(parts)[0]
    return BatchLatency(
        batch_size=count,
        median_ms=1000 * timed.median,
        iqr_ms=1000 * timed.iqr,
        num_runs=sum(part.number_per_run for part in parts),
        peak_memory_mb=peak / _MIB,
    )


def _timed(timer: Timer, min_seconds: float) -> list[Measurement]:
    """Blocks of equally many passes, at least `_PARTS` of them and so long together.

    `Timer.blocked_autorange` looks for their number in tens, which alone takes several times as
    long as a tenth of a second.
    """
    once = timer.timeit(1).median
    number = max(1, round(min_seconds / _PARTS / once))
    parts = [timer.timeit(number) for _ in range(_PARTS)]
    while sum(sum(part.raw_times) for part in parts) < min_seconds:
        parts.append(timer.timeit(number))
    return parts


def _noise(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, device=like.device, dtype=like.dtype)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}"
