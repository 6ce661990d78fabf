"""Progress of a search on a terminal: a table on standard error that moves and disappears. Elsewhere, nothing.

How long a search will still take is a guess: as if each pick of a choice led to as many orders, and as if all were as
fast as those so far. It is shown only when enough was explored for it to have settled, and rounded to what it is worth.
"""

from __future__ import annotations

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

SETTLED = 0.1
"""The part of a search that must be explored before its end is guessed at."""


class ProgressView:
    """Shows how far each subject is. A context manager.

    Args:
        console: on standard error.
        servers: requirements, in the order in which they are shown.
    """

    def __init__(self, console: Console, servers: Sequence[str]) -> None:
        self._states: dict[str, Progress | Report | SimError | None] = dict.fromkeys(servers)
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

    def report(self, report: Report) -> None:
        """A search is finished."""
        self._states[report.server] = report

    def error(self, server: str, error: SimError) -> None:
        """A search ended in an error; what it says, the caller prints at the end."""
        self._states[server] = error

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        for server, state in self._states.items():
            mark: Text | Spinner = Text(" ")
            runs = seconds = rate = frontier = left = said = ""
            style = "dim"
            if state is None:
                said = "waits"
            elif isinstance(state, SimError):
                said, style = type(state).__name__, "red"
            else:
                runs, seconds = _orders(state.runs), f"{state.seconds:.1f} s"
                if isinstance(state, Progress):
                    mark = self._spinner
                    rate = f"{state.runs / state.seconds:,.0f}/s" if state.seconds else ""
                    frontier = f"frontier {state.frontier:,}"
                    left = time_left(state)
                    said, style = ("violated so far", "red") if state.discoveries else ("", "")
                else:
                    said, style = state.verdict, COLORS[state.verdict]
            table.add_row(
                mark,
                Text(plain(server)),
                Text(runs, justify="right"),
                Text(seconds, justify="right"),
                Text(rate, justify="right"),
                Text(frontier, justify="right"),
                Text(left, justify="right"),
                Text(said, style),
            )
        return table


def _orders(number: int) -> str:
    return f"{number:,} order{'s' if number != 1 else ''}"


def time_left(progress: Progress) -> str:
    """A guess at how long a search will still take, in words; nothing as long as it would not be an honest one."""
    explored = 1 - progress.share
    if explored < SETTLED or progress.frontier == 0:
        return ""
    seconds = progress.seconds * progress.share / explored
    if seconds < 60:
        return f"~{_rounded(seconds)} s left"
    if seconds < 3600:
        return f"~{_rounded(seconds / 60)} min left"
    return f"~{_rounded(seconds / 3600)} h left"


def _rounded(number: float) -> str:
    """To one digit, or to the next multiple of 5 if it is above 10."""
    return str(max(1, round(number)) if number < 10 else 5 * round(number / 5))
