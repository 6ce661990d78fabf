"""Memory does not grow with the number of runs, but for one digest for each distinct outcome."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

STORY = """
    from sim import Scenario, Settings
    from toys import Noted

    def play(world, _subject):
        picks = tuple(world.choose(range(10), "digit") for _ in range({digits}))
        world.trace.record(Noted, "toy", picks)

    scenario = Scenario("big:scenario", "Every number.", play, (), settings=lambda **_: Settings(settle=0.0))
"""
TOYS = """
    from typing import ClassVar
    import attrs
    from sim import Event

    @attrs.define(slots=True)
    class Noted(Event):
        kind: ClassVar[str] = "app.noted"
        what: object
"""
MAIN = """
    import resource
    from sim import explore_many

    if __name__ == "__main__":
        report, = explore_many("big:scenario", ["reference"], workers={workers}, checkpoint="it.checkpoint")
        peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        print(report.verdict, report.runs, report.outcomes, *peaks)
"""


def measured(where: Path, digits: int, workers: int) -> tuple[list[str], list[int]]:
    """Verdict, runs and outcomes; and the peaks, in KiB, of the process and of its largest worker."""
    for name, text in (("big.py", STORY), ("toys.py", TOYS), ("main.py", MAIN)):
        (where / name).write_text(textwrap.dedent(text.format(digits=digits, workers=workers)))
    done = subprocess.run([sys.executable, "main.py"], cwd=where, capture_output=True, text=True, check=True)
    *said, own, largest = done.stdout.split()
    return said, [int(own), int(largest)]


@pytest.mark.slow
def test_a_million_distinct_outcomes_fit_in_a_gibibyte(tmp_path: Path) -> None:
    """All processes together."""
    said, (own, largest) = measured(tmp_path, digits=6, workers=2)
    assert said == ["holds", "1000000", "1000000"]
    assert own + 2 * largest < 1 << 20


def test_workers_stay_as_large_as_they_began(tmp_path: Path) -> None:
    """Ten times as many runs: what grows is the digests, some hundred bytes for each."""
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    said, small = measured(tmp_path / "small", digits=3, workers=1)
    assert said == ["holds", "1000", "1000"]
    said, large = measured(tmp_path / "large", digits=4, workers=1)
    assert said == ["holds", "10000", "10000"]
    assert large[0] - small[0] < 16 << 10
