"""What a report says in sentences, each with its numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from rfsearch.analysis.erf_effect import candidates
from rfsearch.analysis.front import cost_label
from rfsearch.analysis.savings import gate_savings
from rfsearch.analysis.statistics import difference_of_means
from rfsearch.feasible.path_set import wilson_interval
from rfsearch.space.trial_attributes import CONTROLS, GRIDDING, LARGER, SMALLER
from rfsearch.space.verdict import QUANTITIES

if TYPE_CHECKING:
    from rfsearch.report.summary import StudySummary

#: What controls on a side of the range are, and what to allow if they are better than what fits.
_SIDES = {SMALLER: "small", LARGER: "large"}
_REMEDIES = {
    SMALLER: "smaller receptive fields",
    LARGER: "larger receptive fields",
    GRIDDING: "more gridding",
}


def answer(summary: StudySummary) -> str:
    """What was found, in one sentence."""
    if summary.trained.empty:
        return "No candidate was trained to the end, so there is no answer yet."
    best, parts = summary.trained.iloc[0], []
    if pd.notna(best["erf_trained"]):
        sees = f"sees {best['erf_trained']:.0f} px after training"
        if summary.objects is not None:
            times = best["erf_trained"] / summary.objects.high
            sees += f", {times:.1f} times the largest object"
        parts.append(sees)
    if len(summary.baselines):
        known = summary.baselines.iloc[0]
        gain = float(best["value"]) - float(known["value"])
        is_better = gain * (1 if summary.maximizes else -1) > 0
        parts.append(
            f"is {'' if is_better else 'not '}better than the baseline {known['baseline']} "
            f"({float(known['value']):.3f})"
        )
    more = f": it {', and '.join(parts)}" if parts else ""
    return (
        f"The best of {len(summary.trained):,} trained candidates has {summary.metric} "
        f"{float(best['value']):.3f}{more}."
    )


def asked(summary: StudySummary) -> list[str]:
    """What the search was to do, in sentences."""
    settings, sentences = summary.settings, []
    if summary.objects is not None:
        sentences.append(f"The objects to see are {summary.objects} large.")
    gates = summary.constraint.described() if summary.constraint is not None else {}
    if gates and settings.get("target", {}).get("max_training_memory_mb") == "device":
        # Not what the machine has that writes the report.
        gates["training_memory"] = "at most what the device of the worker has"
    if gates:
        allowed = [f"{QUANTITIES[gate]} {words}" for gate, words in gates.items()]
        sentences.append(f"A candidate fits if these hold: {'; '.join(allowed)}.")
    if summary.space is not None:
        sentences.append(f"There are {summary.space.size:,} candidates to choose from.")
    data, training = settings.get("data", {}), settings.get("training", {})
    images = [
        f"{data[name]:,} {words}"
        for name, words in (("num_train", "to train on"), ("num_valid", "to judge by"))
        if isinstance(data.get(name), int)
    ]
    if images:
        sentences.append(f"Images: {' and '.join(images)}.")
    if isinstance(training.get("epochs"), int):
        sentences.append(f"Each training takes {_counted(training['epochs'], 'epoch')}.")
    search = settings.get("search", {})
    if isinstance(search.get("trained_trials"), int):
        wanted = _counted(search["trained_trials"], "candidate")
        controls = search.get("controls")
        more = f", and {_counted(controls, 'control')} that do not fit" if controls else ""
        sentences.append(f"The search trains {wanted} to the end{more}.")
    return sentences


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def stated(summary: StudySummary) -> list[tuple[str, str]]:
    """All that the experiment's file says, by name."""
    rows = []
    for table in ("target", "data", "training", "search"):
        for name, value in summary.settings.get(table, {}).items():
            if (words := _in_words(value)) is not None:
                rows.append((f"{table}: {name.replace('_', ' ')}", words))
    return rows


def _in_words(value: object) -> str | None:
    """A value as people write it; None if there is none."""
    if value is None or value in ([], {}):
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_in_words, value)))
    if isinstance(value, dict):
        pairs = ((name.replace("_", " "), _in_words(one)) for name, one in value.items())
        return ", ".join(f"{name} {words}" for name, words in pairs if words is not None)
    return str(value)


def facts(summary: StudySummary) -> list[tuple[str, str]]:
    """The numbers to see first."""
    trained, own = summary.trained, candidates(summary.frame)
    facts = [("trials", f"{len(own):,}"), ("trained to the end", f"{len(trained):,}")]
    if len(trained):
        best = float(trained["value"].iloc[0])
        facts.insert(0, (f"best {summary.metric}", f"{best:.3f}"))
    if summary.costs:
        facts.append(("on the Pareto front", f"{len(summary.front):,}"))
    seconds = float(own["train_seconds"].sum())
    facts.append(("training", duration(seconds)))
    saved = float(gate_savings(summary.frame)["saved_seconds"].sum())
    if saved > 0:
        facts.append(("training saved (estimate)", duration(saved)))
    return facts


def found(summary: StudySummary) -> list[str]:
    """The best candidate."""
    if summary.trained.empty:
        return ["No candidate was trained to the end."]
    best = summary.trained.iloc[0]
    value = f"{float(best['value']):.3f}"
    interval = _interval(summary, float(best["value"]))
    if interval:
        value += f" (95 % interval of its {summary.num_valid:,} validation images {interval})"
    praise = (
        f"has the best {summary.metric}:" if summary.costs else f"is the best: {summary.metric}"
    )
    sentences = [f"Trial {best['number']} {praise} {value}."]
    if pd.notna(best["erf_trained"]):
        sentence = (
            f"Its ERF is {best['erf_trained']:.0f} px after training, of a theoretical receptive "
            f"field of {best['trf_size']} px"
        )
        if summary.objects is not None:
            sentence += (
                f": {best['erf_trained'] / summary.objects.high:.1f} times the largest object"
            )
        sentences.append(f"{sentence}.")
    return sentences


def on_the_front(summary: StudySummary) -> list[str]:
    """What the Pareto front offers, and for which scores; nothing with one objective."""
    if not summary.costs:
        return []
    if summary.front.empty:
        return ["No candidate that fits was trained to the end."]
    front, best = summary.front, summary.front.iloc[0]
    names = [summary.metric, *map(cost_label, summary.costs)]
    sentences = [
        f"{len(front)} of {len(summary.trained)} candidates are on the Pareto front of "
        f"{', '.join(names[:-1])} and {names[-1]}: no other is better in one of these and as good "
        "in all."
    ]
    for cost in summary.costs:
        known = front.dropna(subset=[cost])
        ordered = known.sort_values(cost, ascending=summary.objectives[cost] == "minimize")
        if len(ordered) and ordered["number"].iloc[0] != best["number"]:
            least = ordered.iloc[0]
            sentences.append(
                f"By {cost_label(cost)} trial {least['number']} is the best: {least[cost]:.3g}, "
                f"with {summary.metric} {least['value']:.3f}; trial {best['number']} with "
                f"{best['value']:.3f} has {best[cost]:.3g}."
            )
    return sentences


def against_baselines(summary: StudySummary) -> list[str]:
    """Whether the best candidate is better than the best baseline, and by how much."""
    if summary.baselines.empty:
        return ["This study has no baseline, so the search cannot be said to beat anything."]
    if summary.trained.empty:
        return ["No candidate was trained to the end that could be compared."]
    known, best = summary.baselines.iloc[0], summary.trained.iloc[0]
    ours, theirs = float(best["value"]), float(known["value"])
    gain = (ours - theirs) * (1 if summary.maximizes else -1)
    verdict = "better than" if gain > 0 else "no better than"
    sentences = [
        f"The best candidate is {verdict} the best baseline, {known['baseline']}: "
        f"{ours:.3f} against {theirs:.3f}, a difference of {ours - theirs:+.3f}."
    ]
    if summary.num_valid and summary.metric == "accuracy":
        low, high = difference_interval(ours, theirs, summary.num_valid)
        sentences.append(
            f"The 95 % interval of the difference, from the number of validation images alone, is "
            f"{low:+.3f} to {high:+.3f}" + ("." if low > 0 or high < 0 else ": it may be chance.")
        )
    if pd.notna(known["params_m"]) and pd.notna(best["params_m"]):
        ratio = float(known["params_m"]) / float(best["params_m"])
        # Two digits, without an exponent.
        sentences.append(f"The baseline has {float(f'{ratio:.2g}'):,g} times the parameters.")
    return sentences


def about_controls(summary: StudySummary) -> list[str]:
    """What the candidates that do not fit say about the range; nothing where none were asked for.

    They were drawn at random, while a sampler has chosen most of the others.
    """
    known, controls = summary.study.user_attrs.get(CONTROLS, {}), summary.controls
    if not known and controls.empty:
        return []
    if not known.get("there_are", len(controls)):
        return [
            "There are no controls: in the space no candidate was found that the gates of "
            "receptive fields alone reject."
        ]
    if controls.empty or summary.trained.empty:
        return ["Too few controls and candidates were trained to compare them."]
    lacking = [f"too {_SIDES[side]}" for side in known.get("missing", [])]
    return [
        _control_beats_best(summary) or _controls_against_candidates(summary),
        *(f"The space was not found to have controls that are {side}." for side in lacking),
    ]


def _control_beats_best(summary: StudySummary) -> str | None:
    sign = 1 if summary.maximizes else -1
    ours = float(summary.trained["value"].iloc[0])
    beating = summary.controls[sign * (summary.controls["value"].astype(float) - ours) > 0]
    if beating.empty:
        return None
    best = beating.iloc[0]
    theirs, verdict = float(best["value"]), "is"
    if summary.num_valid and summary.metric == "accuracy":
        low, _ = difference_interval(theirs, ours, summary.num_valid)
        verdict = "is" if low > 0 else "may be"
    sides = dict.fromkeys(summary.control_side(int(number)) for number in beating["number"])
    remedy = " and ".join(_REMEDIES[side] for side in sides)
    return (
        f"A control beats the best candidate, so the range {verdict} wrong for these data: "
        f"{summary.metric} of trial {best['number']} is {theirs:.3f} against {ours:.3f}, although "
        f"its {best['reason']}. Allow {remedy}."
    )


def _controls_against_candidates(summary: StudySummary) -> str:
    groups = [frame["value"].astype(float) for frame in (summary.trained, summary.controls)]
    worse, low, high = difference_of_means(*(groups if summary.maximizes else groups[::-1]))
    interval = "" if math.isnan(low) else f" (95 % bootstrap interval {low:.3f} to {high:.3f})"
    shown = ", so the range is not shown to matter" if low <= 0 or worse <= 0 else ""
    fitting, misfits = map(len, groups)
    subject = f"{misfits} controls, which do" if misfits > 1 else "control, which does"
    return (
        f"By mean {summary.metric}, the {subject} not fit, {'are' if misfits > 1 else 'is'} worse "
        f"by {worse:.3f}{interval} than the {fitting} trained candidates that do{shown}."
    )


def _interval(summary: StudySummary, value: float) -> str:
    if not summary.num_valid or summary.metric != "accuracy":
        return ""
    low, high = wilson_interval(round(value * summary.num_valid), summary.num_valid)
    return f"{low:.3f} to {high:.3f}"


def difference_interval(first: float, second: float, number: int) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies over `number` images each (Newcombe's).

    It takes them as independent, which is wider than need be for the same images.

    >>> low, high = difference_interval(0.9, 0.8, 1000)
    >>> round(low, 3), round(high, 3)
    (0.069, 0.131)
    """
    (low1, high1), (low2, high2) = (
        wilson_interval(round(share * number), number) for share in (first, second)
    )
    difference = first - second
    return (
        difference - math.hypot(first - low1, high2 - second),
        difference + math.hypot(high1 - first, second - low2),
    )


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(42), duration(600), duration(7200)
    ('42 s', '10 min', '2.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
