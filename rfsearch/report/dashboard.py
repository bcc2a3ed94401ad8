"""A copy of a study for optuna-dashboard, with our figures, ERF maps, a note and feasibility.

A finished trial cannot get attributes or artifacts any more, and optuna-dashboard does not show
the constraints of Optuna 5. So what is shown is a copy in memory, in which the constraints also
stand where the dashboard looks for them; the study itself stays as it is.
"""

from __future__ import annotations

import io
import json
import uuid
from copy import deepcopy
from html import escape
from typing import TYPE_CHECKING

import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna_dashboard import save_note, save_plotly_graph_object

from rfsearch.analysis import interactive, interactive_front
from rfsearch.analysis.plots import erf_heat_map
from rfsearch.report._advice import erf_verdict, next_steps
from rfsearch.report._text import against_baselines, facts, found, on_the_front
from rfsearch.search.objectives import name_objectives
from rfsearch.space.trial_gates import CONSTRAINT_KEYS

if TYPE_CHECKING:
    from typing import BinaryIO

    import plotly.graph_objects as go
    from optuna.trial import FrozenTrial

    from rfsearch.report.summary import StudySummary

#: Attributes that say in the table of trials what the constraints say.
FEASIBLE, VIOLATION = "rf_feasible", "rf_violation"
#: Where optuna-dashboard looks for constraints.
_LEGACY_CONSTRAINTS = "constraints"
#: Best candidates whose ERF map is shown, beside `StudySummary.examples`.
_MAPS = 10


class MemoryArtifacts:
    """An artifact store of Optuna's kind, which lasts as long as the process."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """What was written under this name.

        Raises:
            optuna.artifacts.exceptions.ArtifactNotFound: If nothing was.
        """
        if artifact_id not in self._files:
            raise ArtifactNotFound(f"There is no artifact {artifact_id!r}.")
        return io.BytesIO(self._files[artifact_id])

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep all of a file."""
        self._files[artifact_id] = content_body.read()

    def remove(self, artifact_id: str) -> None:
        """Forget a file."""
        self._files.pop(artifact_id, None)


def dashboard_study(summary: StudySummary, artifacts: MemoryArtifacts) -> optuna.Study:
    """A copy of a study in memory, as it is now, for optuna-dashboard to show.

    Args:
        summary: The study.
        artifacts: Where the ERF maps go.
    """
    shown = optuna.create_study(
        study_name=summary.study.study_name,
        directions=summary.study.directions,
        storage=optuna.storages.InMemoryStorage(),
    )
    if summary.study.metric_names:
        name_objectives(shown, summary.study.metric_names)
    for key, value in summary.study.user_attrs.items():
        shown.set_user_attr(key, value)
    shown.add_trials([_copy(t) for t in summary.study.get_trials(deepcopy=False)])
    trials = shown.get_trials(deepcopy=False)
    numbers = [*summary.examples.values(), *summary.trained["number"].head(_MAPS)]
    for number in dict.fromkeys(map(int, numbers)):
        if "architecture" in trials[number].user_attrs:
            _add_map(summary, number, trials[number], artifacts)
    for name, figure in _figures(summary).items():
        save_plotly_graph_object(shown, figure, graph_object_id=name)
    save_note(shown, note(summary))
    return shown


def _copy(trial: FrozenTrial) -> FrozenTrial:
    """The trial, with its constraints where the dashboard and its reader see them."""
    copied = deepcopy(trial)
    octaves = [trial.constraints[k] for k in CONSTRAINT_KEYS.values() if k in trial.constraints]
    if octaves:
        copied.set_user_attr(VIOLATION, round(max(octaves), 3))
        copied.set_user_attr(FEASIBLE, max(octaves) <= 0)
        copied.system_attrs[_LEGACY_CONSTRAINTS] = octaves
    return copied


def _add_map(
    summary: StudySummary, number: int, trial: FrozenTrial, artifacts: MemoryArtifacts
) -> None:
    architecture = summary.architecture(number)
    expected = architecture.expected_erf(axis=architecture.axes[0])  # Any has the whole map.
    erf = summary.maps.get(number) or expected.profile
    kind = "measured" if number in summary.maps else "expected"
    file = io.BytesIO()
    erf_heat_map(erf, f"trial {number}: {kind} ERF before training").savefig(file, dpi=100)
    file.seek(0)
    name = str(uuid.uuid4())
    artifacts.write(name, file)
    about = {"artifact_id": name, "filename": f"{kind}_erf.png", "mimetype": "image/png"}
    trial.system_attrs[f"artifacts:{name}"] = json.dumps(about | {"encoding": None})


def note(summary: StudySummary) -> str:
    """What was asked, found and is to do, as Markdown."""
    lines = [f"# {plain(summary.study.study_name)}", plain(summary.question), ""]
    lines += [
        "| | |",
        "|---|---|",
        *(f"| {plain(n)} | {plain(v)} |" for n, v in facts(summary)),
        "",
    ]
    for heading, sentences in (
        ("What was found", found(summary) + on_the_front(summary)),
        ("Against the baselines", against_baselines(summary)),
        ("Does the effective receptive field matter here?", erf_verdict(summary)),
        ("What to do next", [f"- {step}" for step in next_steps(summary)]),
    ):
        lines += [f"## {heading}", *(plain(sentence) for sentence in sentences), ""]
    return "\n".join(lines)


def plain(text: str) -> str:
    r"""Text whose characters Markdown leaves alone.

    >>> print(plain("[a](b) <i>"))
    \[a\](b) \<i\>
    """
    return "".join(f"\\{sign}" if sign in r"\`*_[]<>#|" else sign for sign in text)


def _figures(summary: StudySummary) -> dict[str, go.Figure]:
    """The figures by their fixed names, made for the dashboard's narrow cards."""
    frame = summary.frame
    figures = {
        "rf-feasibility": ("Feasibility of each trial", interactive.feasibility(frame)),
        "rf-funnel": ("What the gates let through", interactive.funnel(frame)),
    }
    if len(summary.trained):
        largest = summary.objects.high if summary.objects else None
        figure = interactive.value_against_erf(frame, summary.effective, largest)
        figure.update_annotations(font_size=9)
        figure.update_layout(showlegend=False)
        figures["rf-erf"] = (f"{escape(summary.metric)} against the ERF", figure)
        if summary.costs:
            front = interactive_front.pareto_panels(frame, summary.objectives)
            figures["rf-front"] = ("Pareto front", front)
    for title, figure in figures.values():
        # A template is most of a figure's text, which is stored in pieces of 2 kB.
        figure.update_layout(title=title, margin_t=120, legend_y=1.02, template="none")
    return {name: figure for name, (_, figure) in figures.items()}
