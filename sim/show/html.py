"""A report as HTML for a notebook: the table's row and the story. Everything that is text is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from sim.errors import SimError
from sim.search import failure
from sim.show.case import make_case
from sim.show.table import cells, headers

if TYPE_CHECKING:
    from sim.search.report import Report

COLORS = {"holds": "#15803d", "violated": "#c81e1e", "inconclusive": "#b45309"}


def report_html(report: Report) -> str:
    """The report as a fragment of HTML, without scripts and without styles that leave it."""
    heads = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in headers(report))
    parts = [
        f"<div><strong>{escape(report.scenario.name)}</strong>: {escape(report.scenario.summary)}</div>",
        f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{_cells(report)}</tr></tbody></table>",
    ]
    if report.discovery is not None:
        parts.append(_story(report))
    if len(report.observed) > 1:
        rows = "".join(
            f'<tr><td style="text-align:right">{o.runs:,}</td><td style="text-align:left">{escape(o.name)}</td></tr>'
            for o in report.observed
        )
        parts.append(f"<div>What the orders came to:</div><table><tbody>{rows}</tbody></table>")
    return "\n".join(parts)


def _cells(report: Report) -> str:
    shown = []
    for name, cell in zip(headers(report), cells(report), strict=True):
        style = (
            f"text-align:left;color:{COLORS[report.verdict]};font-weight:bold"
            if name == "verdict"
            else "text-align:left"
        )
        shown.append(f'<td style="{style}">{escape(cell)}</td>')
    return "".join(shown)


def _story(report: Report) -> str:
    discovery = report.discovery
    assert discovery is not None
    try:
        case = make_case(report, discovery)
    except SimError as exc:
        return f"<p>{escape(discovery.message)} (The run could not be repeated for its story: {escape(str(exc))})</p>"
    line = failure.replay_line(report.scenario, report.subject, discovery.schedule)
    who = f"<strong>{escape(discovery.invariant)}</strong> in {discovery.runs:,} of {report.runs:,} orders"
    return "\n".join(
        (
            f"<p>It violates {who}. The simplest of them:</p>",
            f"<pre>{escape(str(case.story))}</pre>",
            f"<details><summary>Sequence diagram</summary><pre>{escape(str(case.diagram))}</pre></details>",
            f"<p>Replay it: <code>{escape(line)}</code></p>",
        )
    )
