"""The documents: their examples run, their commands exist, their links lead somewhere.

A document's examples run in order in an empty folder, `python` blocks in one namespace:

- a `text` block right after a `python` block is what that prints, and what follows a line
  `$ rfsearch ...` in a `console` block is what that prints; `...` stands for anything;
- lines of `console` blocks without `$` take too long to run, but their options must exist;
- a `toml` block whose first line is `# NAME.toml` is that file;
- `experiments/quickstart` is a much smaller experiment, which has been searched in.
"""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
import typer
from helpers import rfsearch
from optuna.trial import TrialState
from studies import closing_all
from test_layers import FILES, HOMES, ROOMS, room_of, siblings

from rfsearch.basics.validation import parse
from rfsearch.cli.app import app
from rfsearch.search.config import ExperimentConfig
from rfsearch.search.sampler import RFSampler

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rfsearch"
README = ROOT / "README.md"
GUIDES = sorted(PACKAGE.glob("*/README.md"))
DOCUMENTS = [README, *GUIDES, PACKAGE / "README.md", ROOT / "search_spaces" / "README.md"]
EVIDENCE = sorted((ROOT / "experiments").rglob("README.md"))
ALL = [*DOCUMENTS, *EVIDENCE]
COMMANDS: dict[str, Any] = vars(typer.main.get_command(app))["commands"]

_LOOSELY = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced block of a document."""

    language: str
    text: str


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [Block(*one) for one in found]


def prose(document: Path) -> str:
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def rows(document: Path, header: str) -> dict[str, list[str]]:
    """The cells of the table below a header, by the first, without backticks and links."""
    _, _, below = prose(document).partition(header + "\n")
    table, found = below.partition("\n\n")[0], {}
    for line in table.splitlines()[1:]:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        first = re.sub(r"[`\[\]]|\(.*\)", "", cells[0])
        assert first not in found, f"{name_of(document)} has {first} twice"
        found[first] = cells[1:]
    return found


def assert_prints(wanted: str, got: str) -> None:
    checker = doctest.OutputChecker()
    if not checker.check_output(wanted, got, _LOOSELY):
        example = doctest.Example("", wanted)
        pytest.fail(checker.output_difference(example, got, _LOOSELY | doctest.REPORT_NDIFF))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_examples_run(
    document: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if any("experiments/quickstart" in line for line in run_lines(document)):
        copy_as_quickstart(request.getfixturevalue("searched_once"), tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    with closing_all():  # A user's example leaves it to the end of the program.
        run_all(document, names)
        for study in (value for value in names.values() if isinstance(value, optuna.Study)):
            assert_was_searched(study)


def run_all(document: Path, names: dict[str, Any]) -> None:
    printed = None
    for block in blocks(document):
        if block.language == "text" and printed is not None:
            assert_prints(block.text, printed)
        printed = None
        if block.language == "python":
            printed = run_python(block.text, name_of(document), names)
        elif block.language == "console":
            run_console(block.text)
        elif block.language == "toml":
            write_toml(block.text)


def copy_as_quickstart(searched: Path, folder: Path) -> None:
    copy = shutil.copytree(searched, folder / "experiments" / "quickstart")
    with closing(sqlite3.connect(copy / "study.db")) as database, database:
        database.execute("UPDATE studies SET study_name = 'quickstart'")


def run_lines(document: Path) -> list[str]:
    """What the test above runs, without the lines of consoles that are only shown."""
    return [
        line
        for block in blocks(document)
        if block.language in ("python", "console")
        for line in block.text.splitlines()
        if block.language == "python" or line.startswith("$ ")
    ]


def run_python(code: str, source: str, names: dict[str, Any]) -> str:
    output = StringIO()
    with redirect_stdout(output):
        exec(compile(code, source, "exec"), names)
    return output.getvalue()


def run_console(text: str) -> None:
    for shown in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, wanted = shown.partition("\n")
        program, *arguments = shlex.split(line, comments=True)
        assert program == "rfsearch", line
        result = rfsearch(*arguments)
        assert result.exit_code == 0, result.output
        if wanted.strip():
            assert_prints(wanted, result.stdout)


def write_toml(text: str) -> None:
    values = tomllib.loads(text)
    name = re.match(r"# (\w+\.toml)\n", text)
    if name is not None:
        Path(name[1]).write_text(text, encoding="utf-8")
    if "space" in values:
        parse(ExperimentConfig, values, "the example of an experiment")


def assert_was_searched(study: optuna.Study) -> None:
    trials = study.trials
    assert any(trial.state == TrialState.COMPLETE for trial in trials)
    stopped_by = {trial.user_attrs.get("rejected_by") for trial in trials}
    if isinstance(study.sampler, RFSampler):
        assert not stopped_by & {"theoretical", "expected", "gridding"}


def command_lines(document: Path) -> Iterator[str]:
    for block in blocks(document):
        if block.language == "console":
            yield from re.findall(r"^(?:\$ )?rfsearch (.*)$", block.text, flags=re.MULTILINE)


@pytest.mark.parametrize("document", ALL, ids=name_of)
def test_commands_and_their_options_exist(document: Path) -> None:
    for line in command_lines(document):
        command, *arguments = shlex.split(line, comments=True)
        assert command in COMMANDS, line
        context = COMMANDS[command].context_class(COMMANDS[command])
        # Fails with the option that does not exist; values are not looked at.
        COMMANDS[command].make_parser(context).parse_args(arguments)
    known = {"--help"} | {
        option
        for command in COMMANDS.values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    shown = set(re.findall(r"`(--[a-z-]+)", prose(document)))
    assert shown - known == set()


@pytest.mark.parametrize("document", ALL, ids=name_of)
def test_figures_and_links_exist(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose(document)):
        assert link.startswith("https://") or (document.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_paths_in_the_text_exist(document: Path) -> None:
    paths = re.findall(
        r"`((?:rfsearch|tests|experiments|search_spaces)/[\w/.-]+)`", prose(document)
    )
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("room", sorted({room_of(home) for home in HOMES.values()}))
def test_every_public_name_is_in_its_rooms_guide(room: str) -> None:
    table = rows(PACKAGE / room / "README.md", "| `rfs.` | what it is |")
    assert set(table) == {name for name, home in HOMES.items() if room_of(home) == room}
    assert all(len(purpose) > 10 for (purpose,) in table.values())


def test_the_readme_is_read_in_five_minutes_and_leads_on() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    first, *_ = blocks(README)
    commands = [line for line in first.text.splitlines() if line.startswith("pip install ")]
    assert len(commands) == 2
    assert all(" && " in line for line in commands)
    assert set(rows(README, "| command | what it does |")) == {
        f"rfsearch {command}" for command in COMMANDS
    }
    linked = set(re.findall(r"\]\((rfsearch/[\w/]*README\.md)\)", text))
    assert linked == {name_of(guide) for guide in (*GUIDES, PACKAGE / "README.md")}


def imported_rooms() -> dict[str, list[str]]:
    """The rooms that the modules of each room import from, bottom to top."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module in FILES:
        found[room_of(module)] |= {room_of(name) for name in siblings(module)}
    return {
        room: [other for other in ROOMS if other in rooms and other != room]
        for room, rooms in found.items()
    }


def direct_arrows(imported: dict[str, list[str]]) -> set[tuple[str, str]]:
    """The arrows from which all others follow."""
    below: dict[str, set[str]] = {}
    for room in ROOMS:
        below[room] = set(imported[room]).union(*(below[other] for other in imported[room]))
    return {
        (room, other)
        for room, others in imported.items()
        for other in others
        if not any(other in below[between] for between in others)
    }


def test_the_map_shows_the_rooms_and_their_imports() -> None:
    imported = imported_rooms()
    table = rows(PACKAGE / "README.md", "| room | what it knows | imports |")
    shown = {room: [one for one in cells[1].split(", ") if one] for room, cells in table.items()}
    assert shown == imported
    (drawing,) = (b.text for b in blocks(PACKAGE / "README.md") if b.language == "mermaid")
    arrows = set(re.findall(r"^ +(\w+) --> (\w+)$", drawing, flags=re.MULTILINE))
    assert arrows == direct_arrows(imported)


def test_arrows_that_follow_from_others_are_left_out() -> None:
    imported: dict[str, list[str]] = {room: [] for room in ROOMS}
    imported |= {"field": ["basics"], "trace": ["basics", "field"], "cli": ["basics", "trace"]}
    assert direct_arrows(imported) == {("field", "basics"), ("trace", "field"), ("cli", "trace")}


def test_every_experiment_is_in_the_table_under_its_name() -> None:
    folders = {path.name for path in (ROOT / "experiments").iterdir() if path.is_dir()}
    assert {name for name in folders if not re.fullmatch("[a-z_]+", name)} == set()
    linked = re.findall(r"\]\((\w+)[)/]", prose(ROOT / "experiments" / "README.md"))
    assert sorted(linked) == sorted(folders - {"__pycache__"})
