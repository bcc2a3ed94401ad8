"""The sweep over what libraries list, on one network that is traced and one that is not."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[2] / "experiments" / "trace_peers"


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x * 2, torch.linalg.qr(x)[0]]


@pytest.fixture
def sweep() -> ModuleType:
    spec = spec_from_file_location("sweep", FOLDER / "sweep.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_say_what_is_traced(sweep: ModuleType) -> None:
    row = sweep.row_of(sweep.Case("timm", "test_resnet", lambda: "test_resnet", (64, 64)))
    assert row["verdict"] == "traced"
    assert (row["outputs"], row["stride"], row["layers_lost"]) == (1, "32", 0)
    partly = sweep.row_of(sweep.Case("own", "unknown", Unknown, 32))
    assert partly["verdict"] == "in part"
    assert partly["kind"].startswith("`linalg_qr`: The operation is not known")


def test_the_table_is_of_all_that_is_listed(sweep: ModuleType) -> None:
    table = pd.read_csv(FOLDER / "sweep.csv")
    assert list(table.columns) == list(sweep.COLUMNS)
    assert not table.duplicated(["library", "name"]).any()
    assert set(table["verdict"]) <= {"traced", "in part", "refused", "not built"}
    assert table.loc[table["verdict"] != "traced", "kind"].notna().all()
