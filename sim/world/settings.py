"""What a world is made with, besides its choices."""

from __future__ import annotations

import attrs

from sim.errors import UsageError
from sim.world.agenda import INFINITY
from sim.world.faults import Faults

NO_FAULTS = Faults()


@attrs.frozen
class Settings:
    """What a world is made with, besides its choices.

    Attributes:
        granularity: "turn" or "iteration" (rule 5 of `sim.world.agenda`).
        arrivals: "single", "merged" or "any": whether segments of a connection arrive together (rule 7 there).
        latency: the interval, in virtual seconds, in which a segment arrives after it was sent.
        horizon: virtual seconds at which a run is broken off.
        settle: virtual seconds for which a world goes on after the last script has ended.
        shutdown: whether the processes then get SIGTERM and the world waits for their exit.
        seed: of the world's entropy.
        faults: what may go wrong, and how often in one run.
    """

    granularity: str = attrs.field(default="turn")
    arrivals: str = attrs.field(default="single", kw_only=True)
    latency: tuple[float, float] = attrs.field(default=(0.0, INFINITY))
    horizon: float = 3_600.0
    settle: float = 1.0
    shutdown: bool = False
    seed: int = 0
    faults: Faults = NO_FAULTS

    @granularity.validator
    def _known(self, _attribute: object, value: str) -> None:
        if value not in ("turn", "iteration"):
            raise UsageError(f"granularity={value!r} does not exist. There are: turn, iteration.")

    @arrivals.validator
    def _known_arrivals(self, _attribute: object, value: str) -> None:
        if value not in ("single", "merged", "any"):
            raise UsageError(f"arrivals={value!r} does not exist. There are: single, merged, any.")

    @latency.validator
    def _interval(self, _attribute: object, value: tuple[float, float]) -> None:
        if not 0 <= value[0] <= value[1]:
            raise UsageError(f"latency={value!r} is no interval of virtual seconds: the least first, and not below 0.")
