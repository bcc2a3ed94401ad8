"""What setting up, drawing and moving cost where the expected ERF is a gate, of several checkouts.

Each checkout runs in processes of its own, in turn, so that what else the machine does meets all
of them. Times are CPU times of one thread, medians over the rounds.
Run: python experiments/feasible_set/speed.py CHECKOUT [CHECKOUT ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS, DRAWS = 3, 40


def measure() -> dict[str, float]:
    """Times in ms of this checkout."""
    sys.path.insert(0, str(Path(__file__).parent))
    import numpy as np
    from run import SPACE

    import rfsearch as rfs

    constraint = rfs.RFConstraint(rfs.ScaleTarget(12, 24))
    feasible, rng = SPACE.feasible(constraint), np.random.default_rng(0)
    found: dict[str, float] = {}

    def timed(what: str, run: Callable[[], object]) -> float:
        start = time.process_time()
        run()
        return 1e3 * (time.process_time() - start)

    found["set up"] = timed("set up", lambda: feasible.count)
    draws = [timed("draw", lambda: feasible.sample_params(rng)) for _ in range(2 * DRAWS)]
    found[f"draw, the first {DRAWS}"] = float(np.mean(draws[:DRAWS]))
    found["draw, then"] = float(np.mean(draws[DRAWS:]))
    proposals = [SPACE.to_params(SPACE.sample(rng)) for _ in range(DRAWS)]
    moves = [timed("nearest", lambda one=one: feasible.nearest(one)) for one in proposals]
    found["nearest to a random proposal, mean"] = float(np.mean(moves))
    found["the same, median"] = float(np.median(moves))
    found["the same, largest"] = max(moves)
    # What a sampler that has learned proposes: a member with one other value.
    near = []
    for _ in range(DRAWS):
        params = feasible.sample_params(rng)
        name = str(rng.choice(list(params)))
        options = (
            feasible.choices()[name] if hasattr(feasible, "choices") else SPACE.choices()[name]
        )
        near.append(params | {name: options[rng.integers(len(options))]})
    moves = [timed("nearest", lambda one=one: feasible.nearest(one)) for one in near]
    found["nearest to a changed member, mean"] = float(np.mean(moves))
    return found


def main(checkouts: list[str]) -> None:
    """Print a table with a column for each checkout."""
    import pandas as pd

    rows = []
    for _ in range(ROUNDS):
        for checkout in checkouts:
            environment = os.environ | {"PYTHONPATH": checkout, "OMP_NUM_THREADS": "1"}
            output = subprocess.run(
                [sys.executable, __file__, "--measure"],
                env=environment, check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            rows.append({"checkout": checkout} | json.loads(output.splitlines()[-1]))
    frame = pd.DataFrame(rows).groupby("checkout", sort=False).median().T
    print(frame.round(2).to_string())


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
    else:
        main([str(Path(checkout).resolve()) for checkout in sys.argv[1:] or ["."]])
