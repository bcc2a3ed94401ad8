"""`rfsearch report` and `rfsearch dashboard`: a study in HTML and in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Annotated
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import typer

from rfsearch.basics.atomic import atomic_file
from rfsearch.cli._errors import as_bugs, user_mistakes
from rfsearch.cli._studies import FolderArgument, StorageOption, StudyOption, load_summary


def report(
    folder: FolderArgument = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    storage: StorageOption = None,
    study: StudyOption = None,
) -> None:
    """Write what was asked, what was found and what to do next, as one HTML file."""
    with user_mistakes():
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if out.suffix not in (".html", ".htm"):
            raise ValueError(f"`--out` must end in .html, but got {out}.")
        with load_summary(folder, storage, study) as summary, as_bugs():
            from rfsearch.report.html import render_report

            html = render_report(summary)
        with atomic_file(out) as new:
            new.write_text(html, encoding="utf-8")
    typer.echo(f"report  {out}")


def dashboard(
    folder: FolderArgument = None,
    port: Annotated[int, typer.Option(help="Where to listen; 0 for any free port.")] = 8080,
    host: Annotated[str, typer.Option(help="Who may connect.")] = "localhost",
    storage: StorageOption = None,
    study: StudyOption = None,
) -> None:
    """Show a study, as it is now, in optuna-dashboard until Ctrl-C."""
    with user_mistakes():
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            import optuna_dashboard
        except ImportError:
            raise ValueError(
                "optuna-dashboard is not installed: pip install 'rfsearch[dashboard]'."
            ) from None
        say = "Reading the study and drawing its figures ..."
        with load_summary(folder, storage, study, say) as summary, as_bugs():
            from rfsearch.report.dashboard import MemoryArtifacts, dashboard_study

            artifacts = MemoryArtifacts()
            shown = dashboard_study(summary, artifacts)
            app = optuna_dashboard.wsgi(shown._storage, artifact_store=artifacts)
        with _server(app, host, port) as server:
            typer.echo(f"dashboard  http://{host}:{server.server_port}/  (Ctrl-C ends it)")
            with suppress(KeyboardInterrupt), as_bugs():
                server.serve_forever()


def _server(app: Callable[..., Iterable[bytes]], host: str, port: int) -> WSGIServer:
    """A server that listens.

    Raises:
        ValueError: If the port is taken, or there is no such host.
    """
    try:
        return make_server(host, port, app, _ThreadingServer, _QuietHandler)
    except (OSError, OverflowError) as error:
        raise ValueError(f"{host}:{port}: cannot listen here ({error}).") from None


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    """Browsers hold connections open, which must not keep others waiting."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""
