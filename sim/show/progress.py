"""Progress of a search on a terminal: a table on standard error that moves and disappears. Elsewhere, nothing.

How many orders a search has is not known before its end. A guess is at hand, as if each pick of a choice led to as
many; it is right for trees that are even, and off by a factor for many that are not. So it is held against itself: only
if the guess of when half as many orders had been run is still about today's is it used to say how long it will take.
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
"""By which part a guess may have changed while the number of orders doubled."""
ENOUGH = 0.25
"""The part of a search that must have been explored before anything is said."""
STEP = 1.02
"""By which factor the orders must have grown for another guess to be kept."""


class ProgressView:
    """Shows how far each subject is. A context manager.

    Args:
        console: on standard error.
        servers: requirements, in the order in which they are shown.
    """

    def __init__(self, console: Console, servers: Sequence[str]) -> None:
        self._states: dict[str, Progress | Report | SimError | None] = dict.fromkeys(servers)
        self._forecasts = {server: Forecast() for server in servers}
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
        self._forecasts[server].note(progress)

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
                    known = [] if state.states is None else [f"{state.states:,} states"]
                    known += [] if state.frontier is None else [f"frontier {state.frontier:,}"]
                    frontier = ", ".join(known)
                    left = in_words(self._forecasts[server].seconds_left())
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


class Forecast:
    """Guesses at how long one search will still take, and knows when it had better not."""

    def __init__(self) -> None:
        self._last: Progress | None = None
        self._guesses: list[tuple[int, float]] = []  # orders so far, and how many there were thought to be

    def note(self, progress: Progress) -> None:
        """A search goes on."""
        self._last = progress
        guess = _guess(progress)
        if guess is not None and (not self._guesses or progress.runs > self._guesses[-1][0] * STEP):
            self._guesses.append((progress.runs, guess))

    def seconds_left(self) -> float | None:
        """Real seconds; None if a guess would not be honest."""
        last = self._last
        now = _guess(last) if last is not None else None
        if last is None or now is None or now <= last.runs or last.runs < ENOUGH * now:
            return None
        then = [guess for runs, guess in self._guesses if runs <= last.runs / 2]
        recent = [guess for runs, guess in self._guesses if runs > last.runs / 2]
        if not then or any(abs(guess - now) > SETTLED * now for guess in (then[-1], *recent)):
            return None
        return last.seconds * (now - last.runs) / last.runs


def _guess(progress: Progress) -> float | None:
    """How many orders there are, if each pick of a choice leads to as many."""
    share = progress.share
    return progress.runs / (1 - share) if share is not None and progress.runs and share < 1 else None


def in_words(seconds: float | None) -> str:
    """How much is left, rounded to what a guess is worth."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"~{_rounded(seconds)} s left"
    if seconds < 3600:
        return f"~{_rounded(seconds / 60)} min left"
    return f"~{_rounded(seconds / 3600)} h left"


def _rounded(number: float) -> str:
    """To one digit, or to the next multiple of 5 if it is above 10."""
    return str(max(1, round(number)) if number < 10 else 5 * round(number / 5))
