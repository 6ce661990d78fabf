"""A discovery played once more, with everything that is shown of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from sim.search import failure
from sim.search.explore import replay
from sim.show.sequence import diagram
from sim.show.story import tell

if TYPE_CHECKING:
    from sim.search.report import Discovery, Report
    from sim.search.runner import Run
    from sim.show.sequence import Diagram
    from sim.show.story import Story


@attrs.frozen
class Case:
    """A counterexample, ready to be shown.

    Attributes:
        discovery: what it is.
        run: its run.
        story: the run, told.
        diagram: the run, drawn.
        replay_line: what to paste to see it again.
    """

    discovery: Discovery
    run: Run
    story: Story
    diagram: Diagram
    replay_line: str


def make_case(report: Report, discovery: Discovery) -> Case:
    """Play a report's discovery once more.

    Raises:
        SimError: the run cannot be repeated.
    """
    _, run = replay(discovery.schedule, scenario=report.scenario, server=report.subject)
    broken = any(invariant.name == discovery.invariant for invariant, _ in run.violations)
    name = discovery.invariant if broken else None
    story = tell(run, name)
    if not broken:
        story = attrs.evolve(story, invariant=discovery.invariant, claim=discovery.claim, message=discovery.message)
    return Case(
        discovery,
        run,
        story,
        diagram(run, name),
        failure.replay_line(report.scenario, report.subject, discovery.schedule),
    )
