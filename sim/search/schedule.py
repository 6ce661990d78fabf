"""Schedules in print: a short, versioned, checked blob that reproduces a run.

A blob says everything that a replay needs: scenario and parameters, subject, granularity, horizon, picks; and, so that
a replay under other versions is refused rather than silently different, the versions of Python and of what the
subject's behaviour depends on. It is JSON, compressed, with a checksum, in URL-safe base64 behind a version mark.

A blob is mostly its header: some 130 characters for a model and 200 for uvicorn, which has more versions; ten
picks add about 12, a hundred some 70. So it fits in a line of shell, a commit message, a bug report.
"""

from __future__ import annotations

import base64
import binascii
import json
import platform
import re
import zlib
from typing import TYPE_CHECKING, Any

import attrs

from sim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "sim1."
LONGEST = 1 << 20
"""Bytes of JSON in a blob: more than any search makes, and less than it takes to harm who reads one."""


def essential(picks: Iterable[int]) -> tuple[int, ...]:
    """The picks without the zeros at their end, which a run makes by itself."""
    essential = list(picks)
    while essential and essential[-1] == 0:
        essential.pop()
    return tuple(essential)


@attrs.frozen
class Schedule:
    """One run, by what reproduces it.

    Attributes:
        scenario: its name, or `module:attribute`.
        server: the subject's requirement.
        picks: the schedule proper, without the zeros at its end: a run picks 0 unless it is told otherwise.
        params: parameters that differ from the defaults.
        granularity: "turn" or "iteration".
        horizon: virtual seconds, or None for the scenario's own.
        faults: how often each may strike, or None for what the scenario allows.
        versions: of Python (two places) and of the subject's distributions.
        arrivals: "single", "merged" or "any", or None for the scenario's own.
        digest: of the run that it gave (`sim.search.seeds`), or None. Two schedules may differ in it and be the same.
    """

    scenario: str
    server: str
    picks: tuple[int, ...] = attrs.field(converter=essential)
    params: dict[str, Any] = attrs.field(factory=dict)
    granularity: str = "turn"
    versions: dict[str, str] = attrs.field(factory=dict)
    horizon: float | None = None
    faults: dict[str, int] | None = None
    arrivals: str | None = None
    digest: int | None = attrs.field(default=None, eq=False)

    @property
    def deviations(self) -> int:
        """How many picks are not the boring one."""
        return sum(pick != 0 for pick in self.picks)

    def to_blob(self) -> str:
        """The printed form."""
        record: list[Any] = [
            self.scenario,
            self.server,
            self.granularity,
            self.params,
            self.versions,
            self.horizon,
            self.picks,
        ]
        more = [self.faults, self.arrivals, self.digest]
        while more and more[-1] is None:
            more.pop()
        record += more
        packed = zlib.compress(json.dumps(record, separators=(",", ":"), sort_keys=True).encode(), 9)
        return MARK + _encode(zlib.crc32(packed).to_bytes(4, "big") + packed)

    @classmethod
    def from_blob(cls, blob: str) -> Schedule:
        """Read the printed form.

        Raises:
            UsageError: it is not a blob, is damaged, or was made by another version of the format.
        """
        blob = "".join(blob.split())
        shown = blob if len(blob) <= 24 else blob[:24] + "..."
        mark = re.match(r"sim\d+\.", blob)
        if mark is None:
            raise UsageError(f"{shown!r} is not a schedule: schedules begin with {MARK!r}. Copy the whole replay line.")
        if mark[0] != MARK:
            raise UsageError(
                f"{shown!r} is a schedule of format {mark[0][:-1]!r}, and this version of asgi-sim reads "
                f"{MARK[:-1]!r}. Replay it with the version that printed it, or search again."
            )
        body = blob[len(MARK) :]
        try:
            checked = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise UsageError(
                f"{shown!r} is damaged: it is not what base64 makes. Copy the whole replay line again."
            ) from None
        packed = checked[4:]
        if _encode(checked) != body or zlib.crc32(packed).to_bytes(4, "big") != checked[:4]:
            raise UsageError(
                f"{shown!r} is damaged or cut off: its checksum is wrong. Copy the whole replay line again."
            )
        try:
            return cls._of(json.loads(zlib.decompressobj().decompress(packed, LONGEST)))
        except (zlib.error, ValueError, TypeError, AttributeError, RecursionError):
            raise UsageError(
                f"{shown!r} is not a schedule that asgi-sim has printed: what it holds is no schedule."
            ) from None

    @classmethod
    def _of(cls, record: Any) -> Schedule:
        """The schedule that a record in a blob stands for; ValueError or TypeError if it is none."""
        scenario, server, granularity, params, versions, horizon, picks, *more = record
        if len(more) > 3:
            raise ValueError
        faults, arrivals, digest = [*more, None, None, None][:3]
        texts = [scenario, server, granularity, arrivals or "", *params, *versions, *versions.values()]
        fits = isinstance(params, dict) and all(type(text) is str for text in texts)
        if not fits or not all(type(pick) is int and pick >= 0 for pick in picks):
            raise ValueError
        if faults is not None and not all(type(times) is int and times >= 0 for times in faults.values()):
            raise ValueError
        if digest is not None and type(digest) is not int:
            raise ValueError
        virtual = horizon if horizon is None else float(horizon)
        return cls(scenario, server, picks, params, granularity, versions, virtual, faults, arrivals, digest)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def python_version() -> str:
    """Python's version as far as schedules depend on it."""
    return ".".join(platform.python_version_tuple()[:2])
