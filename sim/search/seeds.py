"""Whether a run depends on the seed of Python's hashes, which differs from process to process.

Within one process a set of texts has one order, so no search sees that a program depends on it. A schedule carries a
digest of the run that it gave; a replay in another process, with another seed, sees that it gives another run. That
has one of two reasons: something was changed since, which is legitimate, or the order of a set. Which one, processes
of our own tell: they run the schedule with seeds that are known.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from sim.errors import Divergence, SimError
from sim.registry import name_of
from sim.search import there
from sim.search.culprit import compare
from sim.search.elsewhere import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.check.scenario import Scenario
    from sim.search.schedule import Schedule

SEEDS = ("1", "2", "3")
"""Those that are tried (PYTHONHASHSEED)."""
BEGIN = "import sys; from sim.search.there import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"
CHANGED = (
    "note: this is not the run that was recorded with the schedule. The application, the scenario or asgi-sim itself has "
    "changed since."
)


def another_run(scenario: Scenario, schedule: Schedule, say: Callable[[str], None] | None) -> None:
    """Find out why a schedule gave another run than when it was recorded.

    Args:
        scenario: the schedule's.
        schedule: the schedule.
        say: told if something was changed.

    Raises:
        Divergence: it depends on the seed of Python's hashes; the line of the program is named.
    """
    if name_of(scenario) is not None:
        first = None
        for seed in SEEDS:
            try:
                with Session(
                    [sys.executable, "-c", BEGIN], schedule.server, environment={"PYTHONHASHSEED": seed}
                ) as session:
                    run, lines = session.ask(partial(there.walk, schedule))
            except SimError:  # the run is broken off, as it is here: that is said elsewhere
                break
            if first is None:
                first = run, lines
            elif first[0] != run:
                raise Divergence(
                    "the schedule gives another run than when it was recorded: it depends on the seed of Python's hashes, "
                    f"and differs under PYTHONHASHSEED={SEEDS[0]} and {seed}. {compare(first[1], lines) or ''}".rstrip()
                )
    if say is not None:
        say(CHANGED)
