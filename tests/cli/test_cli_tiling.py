"""`rfsearch tiling`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rfsearch.cli._models import parse_memory
from rfsearch.cli.app import app


def test_a_table_and_its_numbers() -> None:
    options = ["tiling", "resnet18", "--features", "--image-size", "1000x2048"]
    shown = CliRunner().invoke(app, [*options, "--memory", "1GB"])
    assert shown.exit_code == 0
    assert "images of 1024x2048 px as a whole" in shown.output
    assert "multiples of 32x32 px" in shown.output
    given = CliRunner().invoke(app, [*options, "--memory", "200MB", "--json"])
    plans = json.loads(given.output)["plans"]
    assert plans[0]["share"] == 1
    # It sees 435 px, 201.5 px more than its stride of 32 px on either side.
    assert plans[0]["halo"] == [224, 224]
    assert all(plan["memory_mb"] <= 200e6 / 2**20 for plan in plans)
    assert plans[0]["tiles"] > 1


@pytest.mark.parametrize(
    ("text", "mebibytes"),
    [("4GB", 3814.697), ("1 gib", 1024), ("0.5G", 476.837), ("2048KiB", 2), ("1TB", 953674.3)],
)
def test_amounts_of_memory(text: str, mebibytes: float) -> None:
    assert parse_memory(text) == pytest.approx(mebibytes, rel=1e-5)


@pytest.mark.parametrize("text", ["", "4", "GB", "-1GB", "1.2.3GB", "nanGB", "1e9TB", "0MB"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="--memory must be an amount such as 4GB"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["resnet18", "--image-size", "1024"], "Of a classifier, tile the features before"),
        (["resnet18", "--image-size", "1024x"], "must be SIDE or HEIGHTxWIDTH"),
        (["resnet18", "--features", "--image-size", "8x1024x1024"], "must have 2 sides"),
        (["resnet18", "--features", "--image-size", "1024", "--memory", "1MB"], "No tile fits 1"),
    ],
)
def test_mistakes_are_one_line(options: list[str], message: str) -> None:
    found = CliRunner().invoke(app, ["tiling", *options])
    assert found.exit_code == 2
    assert message in found.output
    assert len(found.output.strip().splitlines()) == 1
