"""The picture of a check: the state graph of the first subject with a violation, drawn while others are searched.

To draw a state graph is to search again, so it is work for a worker. Which subject it will be is known when all that
stand before it in the list have been searched; so the same check always draws the same picture.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

import attrs

from sim.registry import find_scenario, find_subject
from sim.search.elsewhere import Elsewhere
from sim.search.unit import portable, strip
from sim.show.plot import save_state_graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from sim.search.report import Report


@attrs.define
class Picture:
    """Decides which subject is drawn, and draws it.

    Attributes:
        scenario: by which name a worker finds the scenario.
        servers: all subjects, in their order.
        path: where the picture goes.
        executor: who draws it. None: this process.
    """

    scenario: str
    servers: Sequence[str]
    path: Path
    executor: Executor | None = None
    _finished: dict[str, Report | None] = attrs.field(factory=dict)
    _chosen: Report | None = None
    _future: Future[None] | None = None

    def finished(self, server: str, report: Report | None) -> None:
        """A subject was searched, or its search failed."""
        self._finished[server] = report
        for name in self.servers:
            if name not in self._finished:
                return
            report = self._finished[name]
            if report is not None and report.verdict == "violated":
                self._choose(report)
                return

    def finish(self) -> Report | None:
        """Wait for the picture, when all subjects are finished. Returns whose it is; None if there is none to draw.

        Raises:
            SimError: it cannot be drawn.
        """
        reports = [report for name in self.servers if (report := self._finished.get(name)) is not None]
        if self._chosen is None and reports:
            self._choose(reports[0])
        if self._chosen is not None and not self._drawn():
            save_state_graph(self._chosen, self.path)
        return self._chosen

    def _drawn(self) -> bool:
        """Whether a worker has drawn it, who may have died of something else."""
        if self._future is None:
            return False
        try:
            self._future.result()
        except BrokenExecutor:
            return False
        return True

    def _choose(self, report: Report) -> None:
        if self._chosen is None:
            self._chosen = report
            if self.executor is not None:
                server = portable(report.subject) if report.subject is not None else report.server
                self._future = self.executor.submit(draw, strip(report), self.scenario, server, str(self.path))


def draw(report: Report, scenario: str, server: str | Elsewhere, path: str) -> None:
    """Draw a stripped report's graph, in whatever process this is."""
    subject = server if isinstance(server, Elsewhere) else find_subject(server)
    whole = attrs.evolve(report, scenario=find_scenario(scenario), subject=subject)
    save_state_graph(whole, path)
