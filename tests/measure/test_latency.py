from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
import torch
from helpers import architecture, refusal, rfsearch
from torch import Tensor, nn

from rfsearch.measure.latency import BatchLatency, measure_latency


class Sleeper(nn.Module):
    """Takes 2 ms for each image."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.002 * len(x))
        return x


def convolutions() -> nn.Sequential:
    layers = (nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    return nn.Sequential(*layers, nn.BatchNorm2d(8))


def test_each_batch_size_is_timed_by_itself() -> None:
    one, four = measure_latency(Sleeper(), 8, (1, 4), min_seconds=0.05).batches
    assert (one.batch_size, four.batch_size) == (1, 4)
    # Sleep is never shorter than asked for; how much longer depends on the machine.
    assert one.median_ms >= 2
    assert four.median_ms >= 8
    assert one.num_runs >= 5
    assert one.iqr_ms >= 0


def test_images_per_second_follow_from_the_median() -> None:
    assert BatchLatency(32, 4.0, 0.0, 1, 0.0).images_per_second == 8000


@pytest.mark.parametrize("count", [1, 3])
def test_peak_memory_is_weights_input_and_the_maps_alive_at_once(count: int) -> None:
    model = convolutions()
    (measured,) = measure_latency(model, (16, 24), (count,), min_seconds=0.01).batches
    weights = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    # The input, and of the four maps of 8 channels two at a time.
    floats = count * 16 * 24 * (2 + 8 + 8)
    assert measured.peak_memory_mb * 2**20 == weights + 4 * floats


def test_the_first_batch_size_speaks_for_the_network() -> None:
    measured = measure_latency(convolutions(), 16, (2, 1), min_seconds=0.01)
    assert measured.latency_ms == measured.batches[0].median_ms
    assert measured.peak_memory_mb == measured.batches[0].peak_memory_mb
    assert measured.dtype == "float32"
    assert measured.device.startswith("cpu, ")
    assert measured.input_size == (16, 16)


def test_the_model_is_left_as_it_was() -> None:
    model = convolutions().train()
    model[3].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    measure_latency(model, 16, (2,), min_seconds=0.01)
    assert [part.training for part in model.modules()] == [True, True, True, True, False]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_model_that_fails_is_left_as_it_was_too() -> None:
    model = convolutions().train()
    with pytest.raises(ValueError, match="Sequential must run at an input of 4x4 px, but it does"):
        measure_latency(nn.Sequential(model, nn.Conv2d(8, 1, 9)), 4, (1,))
    assert all(part.training for part in model.modules())


def test_dtype_is_the_models() -> None:
    model = convolutions().double()
    assert measure_latency(model, 16, (1,), min_seconds=0.01).dtype == "float64"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch_sizes": ()},
            "`batch_sizes` must be one or more numbers from 1 to 65,536, but got ",
        ),
        ({"batch_sizes": (1, 0)}, "`batch_sizes` must be .* but got \\(1, 0\\)"),
        ({"batch_sizes": (10**9,)}, "`batch_sizes` must be .* but got \\(1000000000,\\)"),
        ({"min_seconds": math.nan}, "`0 < min_seconds <= 3600` must hold, but got nan"),
        ({"min_seconds": math.inf}, "`0 < min_seconds <= 3600` must hold, but got inf"),
        ({"input_size": 0}, "`input_size` must be"),
    ],
)
def test_what_cannot_be_measured(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_latency(Sleeper(), **{"input_size": 8, **options})  # type: ignore[arg-type]


# -- the command ------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_batch_size() -> None:
    batches = ("--batch-size", "1", "--batch-size", "2")
    result = rfsearch(
        "latency", "test_resnet", "--input-size", "64x96", "--seconds", "0.01", *batches
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("test_resnet, input 64x96 px, float32 on ")
    assert lines[2].split() == ["batch", "ms,", "median", "ms,", "IQR", "images/s", "peak", "MiB"]
    assert [line.split()[0] for line in lines[4:] if line] == ["1", "2"]


def test_json_of_an_architecture(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(architecture().to_dict()))
    result = rfsearch(
        "latency", file, "--input-size", "32", "--seconds", "0.01", "--device", "cpu", "--json"
    )
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert [row["batch_size"] for row in values["batches"]] == [1, 32]
    for row in values["batches"]:
        assert row["images_per_second"] == pytest.approx(
            1000 * row["batch_size"] / row["median_ms"]
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet18", "--seconds", "0"), "`0 < min_seconds <= 3600`"),
        (("resnet18", "--seconds", "inf"), "`0 < min_seconds <= 3600`"),
        (("test_vit", "--input-size", "100"), "test_vit must run at an input of 100x100 px"),
        (("test_resnet", "--in-chans", "0"), "`1 <= in_chans <= 4,096` must hold"),
        (("resnet18", "--batch-size", "0"), "`batch_sizes`"),
        (("resnet18", "--device", "nonsense"), "The device 'nonsense' cannot be used here"),
        (("resnet18", "--input-size", "x"), "--input-size must be"),
        (("resnet19",), "`model` must be a name that timm knows"),
        (("missing.json",), "missing.json: cannot be read"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str) -> None:
    assert message in refusal(rfsearch("latency", *arguments))


@pytest.mark.gpu
def test_cuda_memory_does_not_count_what_else_is_there() -> None:
    model = convolutions().cuda()
    other = torch.zeros(2**26, device="cuda")
    (measured,) = measure_latency(model, 64, (8,), min_seconds=0.05).batches
    floats = 8 * 64 * 64 * (2 + 8 + 8)
    assert 4 * floats <= measured.peak_memory_mb * 2**20 < other.nbytes
