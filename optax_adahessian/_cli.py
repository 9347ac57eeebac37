"""The command line: `optax-adahessian path` and `optax-adahessian estimate`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from optax_adahessian.analysis.arguments import parse
from optax_adahessian.analysis.commands import run


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; wrong input ends with a message on stderr and exit status 2.

    Without `argv`, as a program, it takes the command line's arguments and ends as other programs do: silently and at
    once at Ctrl-C or when nobody reads its output.
    """
    if argv is None:
        _let_signals_end_the_program()
        argv = sys.argv[1:]
    options = parse(argv)
    try:
        print(run(options), flush=True)
    except (OSError, TypeError, ValueError) as error:
        print(f"optax-adahessian {options.command}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _let_signals_end_the_program() -> None:
    """Python's own handlers raise exceptions, which show a traceback, and which a callback can swallow."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a program in the background ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "SIGPIPE"):  # Windows has none
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
