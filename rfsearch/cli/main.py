"""Where the program starts: Ctrl-C is provided for before anything else is loaded."""

from __future__ import annotations

import signal


def main() -> None:
    """Entry point of the `rfsearch` command."""
    # While modules are loaded there is nothing to clear up. Where a shell ignores SIGINT for what
    # runs in the background, it stays ignored.
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from rfsearch.cli.app import run_app

    run_app(usual)


if __name__ == "__main__":
    main()
