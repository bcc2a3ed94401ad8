"""What each shipped search space reaches, and one of its networks as a picture.

Prints the rows of the table in search_spaces/README.md and writes the pictures beside it, into
search_spaces/networks/. It takes a few minutes of one CPU core.
Run: python experiments/shipped_spaces/run.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rfsearch as rfs
from rfsearch.space.space import shipped_spaces

PICTURES = Path(__file__).parents[2] / "search_spaces" / "networks"
#: Random members whose expected ERF is looked at.
SAMPLE = 300
#: The pictured network is the first draw that fits objects of these sizes, in px.
OBJECTS = (16, 40)


def short(number: int) -> str:
    """The number with two digits, as a power of ten where it is long."""
    if number < 10_000:
        return f"{number:,}"
    exponent = len(str(number)) - 1
    digits = "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(exponent))
    return f"{number / 10**exponent:.1f} \u00d7 10{digits}"


def example(space: rfs.SearchSpace) -> rfs.Architecture:
    """A member of the space that fits, or any where none does."""
    rng = np.random.default_rng(0)
    feasible = space.feasible(rfs.RFConstraint(rfs.ScaleTarget(*OBJECTS)))
    return space.sample(rng) if feasible.is_empty() else feasible.sample(rng)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    anything = rfs.RFConstraint(theoretical=None, effective=None)
    for name, path in shipped_spaces().items():
        space = rfs.SearchSpace.load(path)
        sizes = space.feasible(anything).histogram()
        rng = np.random.default_rng(1)
        erfs = [space.sample(rng).expected_erf().size for _ in range(SAMPLE)]
        low, middle, high = np.quantile(erfs, (0.05, 0.5, 0.95), method="nearest")
        print(
            f"| `{name}.toml` | {short(space.size)} | {min(sizes)} to {max(sizes)} px "
            f"| {low} / {middle} / {high} px |",
            flush=True,
        )
        picture = example(space)._repr_svg_()
        (PICTURES / f"{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
