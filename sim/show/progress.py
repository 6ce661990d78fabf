"""Progress of a search on a terminal or in a log: always on standard error, never where the result goes.

On a terminal it is a table that moves and disappears. Elsewhere each finished subject is one line, and now and then
each one that takes long says where it is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sim.errors import SimError
from sim.search.explore import Progress
from sim.show.reading import plain
from sim.show.table import COLORS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console

    from sim.search.report import Report

EVERY = 10.0
"""Real seconds between two lines about one subject, where there is no terminal."""


class ProgressView:
    """Shows how far each subject is. A context manager.

    Args:
        console: on standard error.
        servers: requirements, in the order in which they are shown.
        quiet: show nothing where there is no terminal.
    """

    def __init__(self, console: Console, servers: Sequence[str], *, quiet: bool = False) -> None:
        self._console = console
        self._states: dict[str, Progress | Report | SimError | None] = dict.fromkeys(servers)
        self._quiet = quiet
        self._said: dict[str, float] = {}
        self._spinner = Spinner("dots")
        moving = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, transient=True, get_renderable=self._table) if moving else None

    def __enter__(self) -> ProgressView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def progress(self, server: str, progress: Progress) -> None:
        """A search goes on."""
        self._states[server] = progress
        now = time.monotonic()
        if now - self._said.setdefault(server, now) >= EVERY:
            self._said[server] = now
            self._say(server, f"{_orders(progress.runs)} so far, {progress.outcomes:,} distinct outcomes")

    def report(self, report: Report) -> None:
        """A search is finished."""
        self._states[report.server] = report
        bound = f" ({report.bound})" if report.bound is not None else ""
        self._say(report.server, f"{report.verdict}{bound}, {_orders(report.runs)} in {report.seconds:.1f} s")

    def error(self, server: str, error: SimError) -> None:
        """A search ended in an error; what it says, the caller prints at the end."""
        self._states[server] = error
        self._say(server, type(error).__name__)

    def _say(self, server: str, text: str) -> None:
        if self._live is None and not self._quiet:
            self._console.print(Text(f"{plain(server)}: {text}"), soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        for server, state in self._states.items():
            mark: Text | Spinner = Text(" ")
            runs = seconds = said = ""
            style = "dim"
            if state is None:
                said = "waits"
            elif isinstance(state, SimError):
                said, style = type(state).__name__, "red"
            else:
                runs, seconds = _orders(state.runs), f"{state.seconds:.1f} s"
                if isinstance(state, Progress):
                    mark = self._spinner
                    said, style = ("violated so far", "red") if state.discoveries else ("", "")
                else:
                    said, style = state.verdict, COLORS[state.verdict]
            table.add_row(
                mark,
                Text(plain(server)),
                Text(runs, justify="right"),
                Text(seconds, justify="right"),
                Text(said, style),
            )
        return table


def _orders(number: int) -> str:
    return f"{number:,} order{'s' if number != 1 else ''}"
