"""How a report fails a test: one sentence, the story of the simplest counterexample, and the line that replays it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sim.errors import SimError, UsageError
from sim.registry import find_scenario, find_subject
from sim.search.elsewhere import Elsewhere
from sim.search.there import Beside

if TYPE_CHECKING:
    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.report import Discovery, Report
    from sim.search.schedule import Schedule

ALLOW = "report.check(allow_inconclusive=True)"


class CheckFailed(AssertionError):  # noqa: N818 - it says what happened, as its relatives in sim.errors do
    """What `Report.check` raises. Its text is the summary, the story and, last, the line that replays it.

    Attributes:
        summary: what is wrong, in one sentence.
        story: the simplest counterexample, told, and what else is broken; "" if nothing is.
        replay_line: how to see it again; "" likewise.
    """

    def __init__(self, summary: str, story: str = "", replay_line: str = "") -> None:
        super().__init__("\n\n".join(part for part in (summary, story, replay_line) if part))
        self.summary = summary
        self.story = story
        self.replay_line = replay_line


CheckFailed.__module__ = "sim"


def violated(report: Report, discovery: Discovery) -> CheckFailed:
    """The failure of a report with a discovery."""
    others = [f"{d.invariant} ({counted(d.runs)})" for d in report.discoveries if d is not discovery]
    told = [story(report, discovery)]
    if others:
        told.append(f"also broken: {', '.join(others)}")
    summary = (
        f"{_who(report)} violates {discovery.invariant} in {discovery.runs:,} of {counted(report.runs)}: "
        f"{discovery.message}"
    )
    return CheckFailed(summary, "\n".join(told), replay_line(report.scenario, report.subject, discovery.schedule))


def inconclusive(report: Report) -> CheckFailed:
    """The failure of a report that says neither yes nor no."""
    bound = report.bound
    ended = "not every order was explored"
    if bound is not None:
        name = bound.name.replace("-", "_")
        ended = f"{bound} was reached. Raise {name} (--{bound.name}; with pytest: --sim-{bound.name})"
    missing = f" No run showed {', '.join(report.unwitnessed)}." if report.unwitnessed else ""
    return CheckFailed(
        f"{_who(report)}: inconclusive, for {ended}, or accept less than all orders: {ALLOW}. "
        f"In {counted(report.runs)} nothing was broken.{missing}"
    )


def story(report: Report, discovery: Discovery) -> str:
    """The discovery's run, played once more and told."""
    from sim.search.explore import replay

    tell = importlib.import_module("sim.show.story").tell
    claim = f"broken: {discovery.claim} ({discovery.invariant})\n        {discovery.message}"
    try:
        _, run = replay(discovery.schedule, scenario=report.scenario, server=report.subject)
    except SimError as exc:
        return f"{claim}\nThe run could not be repeated for its story: {exc}"
    if any(invariant.name == discovery.invariant for invariant, _ in run.violations):
        return str(tell(run, discovery.invariant))
    return f"{tell(run)}\n{claim}"


def replay_line(scenario: Scenario, subject: Subject | None, schedule: Schedule) -> str:
    """What to paste: into a shell if names lead to the scenario and the server, else into Python."""
    blob = schedule.to_blob()
    return (
        f"asgi-sim replay {blob}" if findable(scenario, subject) else f'sim.replay("{blob}", scenario=..., server=...)'
    )


def findable(scenario: Scenario, subject: Subject | None) -> bool:
    """Whether another process finds the scenario and the server by their names."""
    if subject is None:
        return True
    try:
        same = ":" in scenario.name or find_scenario(scenario.name) is scenario
        if isinstance(subject, (Elsewhere, Beside)):
            return same
        return same and type(find_subject(subject.requirement)) is type(subject)
    except UsageError:
        return False


def counted(runs: int) -> str:
    """A number of runs, in words."""
    return f"{runs:,} run{'s' if runs != 1 else ''}"


def _who(report: Report) -> str:
    return f"{report.scenario.name} on {report.server} ({report.kind})"
