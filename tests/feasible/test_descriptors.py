"""A search in what is known of members beforehand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from rfsearch.feasible._pool import Pool
from rfsearch.feasible._surrogate import Surrogate, spread_out
from rfsearch.feasible.discrete_set import DiscreteSet
from rfsearch.feasible.expectation import Expectation
from rfsearch.feasible.fold import Fold
from rfsearch.feasible.sampler import FeasibleSampler

Params = dict[str, Any]
#: Layers of a network that is never built; a kernel of 0 is none.
LAYERS: dict[str, BaseDistribution] = {
    f"layer{number}": CategoricalDistribution([0, 3, 5, 7]) for number in range(5)
}


def field(params: Params) -> int:
    return 1 + sum(max(0, size - 1) * 2 ** (n // 2) for n, size in enumerate(params.values()))


def cost(params: Params) -> int:
    return sum(size * size for size in params.values())


def describe(params: Params) -> dict[str, float]:
    return {"field": math.log(field(params)), "cost": math.log(cost(params) + 1)}


def score(params: Params) -> float:
    """Grows with the cost, and is best where the field is 24."""
    return 0.1 * math.log(cost(params) + 1) - abs(math.log(field(params) / 24))


def sampler(seed: int = 0, **options: Any) -> FeasibleSampler:
    options = {"describe": describe} | options
    return FeasibleSampler(LAYERS, base="descriptors", seed=seed, **options)


def search(
    one: optuna.samplers.BaseSampler, trials: int, enough: float = math.inf
) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=one)
    for _ in range(trials):
        trial = study.ask(LAYERS)
        study.tell(trial, score(trial.params))
        if study.best_value >= enough:
            break
    return study


def trials_to_one_of_the_best(make: Callable[[int], optuna.samplers.BaseSampler]) -> float:
    """Median over seeds; the best twentieth of one percent is one of 1,024."""
    scores = [score(params) for params in members()]
    bar = np.quantile(scores, 0.995)
    needed = []
    for seed in range(5):
        study = search(make(seed), 30, enough=bar)
        needed.append(len(study.trials) if study.best_value >= bar else 99)
    return float(np.median(needed))


def members() -> list[Params]:
    everything = DiscreteSet(LAYERS, Fold((), lambda state, name, value: ()))
    return everything.some(np.random.default_rng(0), everything.size)


def test_it_needs_far_fewer_trials_than_samplers_that_see_the_choices() -> None:
    descriptors = trials_to_one_of_the_best(lambda seed: sampler(seed))
    tpe = trials_to_one_of_the_best(lambda seed: optuna.samplers.TPESampler(seed=seed))
    assert descriptors <= 12
    assert tpe >= 2 * descriptors


def test_without_descriptors_it_learns_from_choices() -> None:
    study = search(sampler(describe=None), 12)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 12


def test_every_proposal_is_new_and_fits() -> None:
    def small(params: Params) -> bool:
        return cost(params) <= 60

    one = sampler(fits=small)
    study = search(one, 20)
    assert all(small(trial.params) for trial in study.trials)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 20


def test_the_set_may_be_used_up() -> None:
    few = sampler(fits=lambda params: cost(params) <= 9)
    study = search(few, 9)
    assert few.feasible.count == 6
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 6


def test_a_set_that_cannot_be_listed() -> None:
    many: dict[str, BaseDistribution] = {f"x{n}": IntDistribution(0, 9) for n in range(12)}
    one = FeasibleSampler(
        many,
        describe=lambda params: {"sum": sum(params.values())},
        base="descriptors",
        described=100,
        described_each=20,
        seed=0,
    )
    study = optuna.create_study(sampler=one)
    study.optimize(
        lambda trial: abs(sum(trial.suggest_int(name, 0, 9) for name in many) - 30), n_trials=14
    )
    assert study.best_value <= 2  # Few of the draws, whose sums are 54 on average, are near 30.


def test_what_others_are_trying_is_no_neighbour_of_what_is_proposed() -> None:
    study = search(sampler(), 8)
    asked = [study.ask(LAYERS).params for _ in range(4)]
    assert len({tuple(params.items()) for params in asked}) == 4


def test_pending_candidates_are_taken_to_be_as_expected() -> None:
    rng = np.random.default_rng(0)
    tried, scores = _unexpected(rng.normal(size=(12, 2))), rng.normal(size=12)
    there = np.array([[0.0, 0.1, 0.2]])
    one = Surrogate(2, 0)
    one.fit(tried, scores, there[:0], rng)
    before = one.improvement(there)
    one.fit(tried, scores, there, rng)
    assert one.improvement(there) < before


def _unexpected(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Candidates of which nothing is expected."""
    return np.pad(columns, ((0, 0), (1, 0)))


def test_two_objectives() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler())
    for _ in range(25):
        trial = study.ask(LAYERS)
        study.tell(trial, [score(trial.params), cost(trial.params)])
    found = sorted(trial.values for trial in study.best_trials)
    assert len(found) >= 5
    assert found[0][1] <= 10
    assert found[-1][0] >= np.quantile([score(params) for params in members()], 0.85)


def test_pruned_failed_and_infinite_trials() -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler())
    outcomes = [None, math.inf, -math.inf, 1.0, None, 2.0, 1.5]
    for number, outcome in enumerate(outcomes):
        trial = study.ask(LAYERS)
        if outcome is None:
            study.tell(trial, state=TrialState.PRUNED)
        elif number == 5:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, outcome)
    assert study.ask(LAYERS).params


def test_trials_of_another_space_are_no_members() -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler())
    study.add_trial(
        optuna.trial.create_trial(
            params={"layer0": 9},
            distributions={"layer0": CategoricalDistribution([9])},
            value=1.0,
        )
    )
    assert study.ask(LAYERS).params


def test_many_tried_ones_are_bounded() -> None:
    rng = np.random.default_rng(0)
    tried = _unexpected(rng.normal(size=(900, 2)))
    one = Surrogate(2, 0)
    one._fitted_to = 10**9  # Lengths are not what this is about.
    one.fit(tried, tried[:, 1], tried[:0], rng)
    kept = one._process.X_train_
    assert len(kept) == 300
    assert tried[:, 1].argmax() in [np.flatnonzero((tried == row).all(axis=1))[0] for row in kept]


def test_the_first_ones_are_spread_out() -> None:
    rng = np.random.default_rng(0)
    crowd, alone = rng.normal(scale=0.01, size=(99, 2)), np.array([[5.0, 5.0]])
    rows = np.concatenate([crowd, alone])
    drawn = [spread_out(rows, [0], np.arange(1, 100), rng) for _ in range(20)]
    assert drawn.count(99) >= 18


@pytest.mark.parametrize(
    ("describe", "message"),
    [
        (lambda params: 1.0, "must give a dictionary, but gave 1.0"),
        (lambda params: {"cost": math.nan}, "must give finite numbers, but gave nan for 'cost'"),
        (lambda params: {"cost": "much"}, "must give finite numbers, but gave 'much'"),
        (lambda params: {f"of {params['layer0']}": 1.0}, "as for other parameters"),
        (lambda params: {"cost": 1 / 0}, "has failed with ZeroDivisionError"),
    ],
)
def test_what_a_description_must_not_be(describe: Any, message: str) -> None:
    study = optuna.create_study(sampler=sampler(describe=describe))
    with pytest.raises(ValueError, match=f"`describe` for .*{message}"):
        study.ask(LAYERS)


def test_names_that_are_not_known() -> None:
    with pytest.raises(ValueError, match="must be a sampler or 'descriptors', but got 'gp'"):
        FeasibleSampler(LAYERS, base="gp", fits=bool)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`describe` is for"):
        FeasibleSampler(LAYERS, fits=bool, describe=describe)


def test_rows_of_numbers_and_of_categories() -> None:
    choices = {"size": IntDistribution(0, 4), "kind": CategoricalDistribution(["max", "avg"])}
    pool = Pool(DiscreteSet(choices, Fold((), lambda *_: ())), lambda p: {"double": 2 * p["size"]})
    for size in (0, 4):
        assert pool.add({"size": size, "kind": "avg"}) == pool.add({"size": size, "kind": "avg"})
    rows, descriptors = pool.rows(None)
    assert descriptors == 1
    half = math.sqrt(0.5)
    assert rows.ravel().tolist() == pytest.approx([0, -1, 0, 0, half, 0, 1, 1, 0, half])
    assert pool.rows("double")[0][:, 0].tolist() == pytest.approx([-1, 1])


# -- what is expected, and what it costs -------------------------------------------------------


def of_layers(params: Params) -> dict[str, float]:
    """The first layer is what is expected, and the second one what it costs."""
    sizes = list(map(float, params.values()))
    return {"hope": sizes[0], "cost": sizes[1], "others": sum(sizes[2:])}


def test_the_first_has_most_hope_for_its_cost() -> None:
    study = optuna.create_study(sampler=sampler(describe=of_layers, expected="hope", cost="cost"))
    first = study.ask(LAYERS)
    assert (first.params["layer0"], first.params["layer1"]) == (7, 0)
    # While nothing has come of it, others look among the most promising tenth.
    promise = {p: p[0] / 2 ** (p[1] / 4) for p in itertools.product([0, 3, 5, 7], repeat=2)}
    worst = np.quantile(list(promise.values()), 0.85)
    for _ in range(5):
        other = study.ask(LAYERS)
        assert promise[other.params["layer0"], other.params["layer1"]] >= worst


def test_with_several_objectives_nothing_is_expected() -> None:
    one = sampler(describe=of_layers, expected="hope")
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=one)
    assert len({study.ask(LAYERS).params["layer0"] for _ in range(5)}) > 1


def test_a_surrogate_adds_what_is_learnt_to_what_is_expected() -> None:
    """The same process for scores without what was expected; its own part is 0 far away."""
    rng = np.random.default_rng(0)
    columns, hope, scores = rng.normal(size=(8, 2)), rng.normal(size=8), rng.normal(size=8)
    scores = (scores - scores.mean()) / scores.std()
    beyond = scores - 0.5 * hope
    plain, hopeful = Surrogate(0, 2), Surrogate(0, 2)
    for one, first, values in ((plain, 0 * hope, beyond), (hopeful, hope, scores)):
        one._fitted_to = 10**9  # Lengths are found for scores of variance 1.
        one.fit(np.column_stack([first, columns]), values, np.empty((0, 3)), rng)
    there = rng.normal(size=(5, 3))
    learnt = plain.predict(there * [0, 1, 1]) * beyond.std() + beyond.mean()
    far = there + np.array([0, 1e6, 1e6])
    assert hopeful.predict(far) == pytest.approx(beyond.mean() + 0.5 * far[:, 0])
    assert hopeful.predict(there) - 0.5 * there[:, 0] == pytest.approx(learnt, abs=0.1)


def test_of_what_is_as_good_the_cheap_is_tried() -> None:
    """Costs of the first proposals that something is known for, of a score that costs nothing."""

    def cost_of_sixth(seed: int, **options: Any) -> float:
        study = optuna.create_study(direction="maximize", sampler=sampler(seed, **options))
        for _ in range(6):
            trial = study.ask(LAYERS)
            of_trial = of_layers(trial.params)
            study.tell(trial, of_trial["hope"] + of_trial["others"])
        return of_trial["cost"]

    known = [cost_of_sixth(seed, describe=of_layers, cost="cost") for seed in range(4)]
    unknown = [cost_of_sixth(seed, describe=of_layers) for seed in range(4)]
    assert sum(known) < sum(unknown) / 2


# -- what earlier studies let expect ----------------------------------------------------------


def earlier_trials(number: int) -> tuple[list[dict[str, float]], list[float]]:
    """Members of a space, drawn, and their scores."""
    drawn = np.random.default_rng(1).choice(len(members()), number, replace=False)
    tried = [members()[place] for place in drawn]
    return [describe(params) for params in tried], [score(params) for params in tried]


def test_earlier_trials_save_most_of_the_search() -> None:
    known = Expectation([earlier_trials(25)])

    def informed(params: Params) -> dict[str, float]:
        return describe(params) | {"expected": known.of(describe(params))}

    with_it = trials_to_one_of_the_best(
        lambda seed: sampler(seed, describe=informed, expected="expected")
    )
    assert with_it <= trials_to_one_of_the_best(sampler) / 2


def test_a_wrong_expectation_is_overcome() -> None:
    def misled(params: Params) -> dict[str, float]:
        return describe(params) | {"expected": -score(params)}

    study = search(sampler(describe=misled, expected="expected"), 30)
    assert study.trials[0].value == min(map(score, members()))
    assert study.best_value >= np.quantile([score(params) for params in members()], 0.99)


def test_studies_may_have_scores_of_other_scales() -> None:
    rows, scores = earlier_trials(30)
    halves = [(rows[:15], scores[:15]), (rows[15:], scores[15:])]
    scaled = [halves[0], (rows[15:], [100 * one + 7 for one in scores[15:]])]
    expected, other = Expectation(halves), Expectation(scaled)
    for params in members()[::50]:
        assert other.of(describe(params)) == pytest.approx(expected.of(describe(params)))


def test_an_expectation_ranks_members_as_their_scores() -> None:
    known = Expectation([earlier_trials(40)])
    some = members()[::17]
    ranks = [np.argsort(np.argsort(values)) for values in (
        [known.of(describe(params)) for params in some], [score(params) for params in some]
    )]  # fmt: skip
    assert np.corrcoef(*ranks)[0, 1] > 0.95


def test_what_says_nothing_of_what_to_expect() -> None:
    rows, _ = earlier_trials(3)
    with pytest.raises(ValueError, match="at least two different scores"):
        Expectation([([], []), (rows, [0.5, 0.5, 0.5])])
    with pytest.raises(ValueError, match="`expected='hope'` must come with `describe`"):
        sampler(describe=None, expected="hope")
    for name in ("expected", "cost"):
        with pytest.raises(ValueError, match=r"must give 'hope', .* but gives field, cost"):
            search(sampler(**{name: "hope"}), 1)
