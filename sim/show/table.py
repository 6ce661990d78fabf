"""Reports for a terminal, as rich renderables: the table of results, and under it what was found.

Nothing here prints. All text is put in as text, never as rich's markup: brackets in a server's name or in a log line
stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sim.errors import SimError
from sim.search import failure
from sim.search.reduction import REDUCTIONS
from sim.show.case import make_case
from sim.show.reading import plain
from sim.show.sequence import diagram
from sim.show.story import tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from sim.search.report import Discovery, Report
    from sim.search.runner import Run
    from sim.show.sequence import Diagram
    from sim.show.story import Story
    from sim.world.fingerprint.past import Kind

COLORS = {"holds": "bold green", "violated": "bold red", "inconclusive": "bold yellow"}
WIDTH = 98


def results_table(reports: Iterable[Report]) -> Table:
    """A row for each subject; with the number of states where one is known."""
    reports = list(reports)
    states = any(report.states is not None for report in reports)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("server", no_wrap=True)
    table.add_column("kind")
    table.add_column("verdict", no_wrap=True)
    table.add_column("orders", justify="right")
    table.add_column("complete", no_wrap=True)
    if states:
        table.add_column("states", justify="right")
    table.add_column("outcomes", justify="right")
    table.add_column("seconds", justify="right")
    for cells, verdict in (_row(report, states) for report in reports):
        table.add_row(*(Text(cell, COLORS[verdict] if cell == verdict else "") for cell in cells))
    return table


def headers(report: Report) -> tuple[str, ...]:
    """The table's headings for one report."""
    states = ("states",) if report.states is not None else ()
    return ("server", "kind", "verdict", "orders", "complete", *states, "outcomes", "seconds")


def _row(report: Report, states: bool) -> tuple[tuple[str, ...], str]:
    complete = "yes" if report.complete else f"no: {report.bound}" if report.bound is not None else "no"
    found = (f"{report.states:,}" if report.states is not None else "",) if states else ()
    numbers = (f"{report.runs:,}", complete, *found, f"{report.outcomes:,}", f"{report.seconds:.1f}")
    return (plain(report.server), report.kind, report.verdict, *numbers), report.verdict


def cells(report: Report) -> tuple[str, ...]:
    """The table's row for a report, as text."""
    return _row(report, report.states is not None)[0]


def _struck(report: Report) -> str:
    """In how many orders each fault struck."""
    return ", ".join(
        f"{name} struck in {count:,} {'order' if count == 1 else 'orders'}" if count else f"{name} in none"
        for name, count in report.struck.items()
    )


def _servers_of(reports: Sequence[Report], struck: str) -> str:
    return ", ".join(report.server for report in reports if report.faults and _struck(report) == struck)


def details(reports: Sequence[Report], *, width: int = WIDTH) -> Iterator[RenderableType]:
    """What goes under the table: the first violation in full, the others in a line each, and what the runs came to."""
    told = False
    faults = {", ".join(f"{name}={times}" for name, times in report.faults.items()) for report in reports}
    if any(faults):
        yield Text()
        yield Text(f"Faults that could strike in one order: {'; '.join(sorted(faults))}")
        for struck in sorted({_struck(report) for report in reports if report.faults}):
            yield Text(f"  {struck}" if len(reports) == 1 else f"  {struck}: {_servers_of(reports, struck)}")
    for report in reports:
        if report.discovery is not None:
            yield Text()
            yield _violation(report, report.discovery, told=told, width=width)
            told = True
    alike: dict[tuple[tuple[str, int], ...], list[Report]] = {}
    for report in reports:
        alike.setdefault(tuple((o.name, o.runs) for o in report.observed), []).append(report)
    for observed, group in alike.items():
        if len(observed) > 1:
            yield Text()
            yield observations(group)
    reduced = [report for report in reports if report.reduce]
    if reduced:
        yield Text()
        yield reductions(reduced)
    for report in reports:
        if report.states is not None:
            yield from _of_states(report)
    for report in reports:
        if report.verdict == "inconclusive" and report.bound is not None:
            yield Text()
            yield Text.assemble(
                (f"{plain(report.server)} is inconclusive", COLORS["inconclusive"]),
                f": the search ended by {report.bound}. To go on, {report.bound.advice}.",
            )


PASTS = {
    "trace": "their whole past, because the scenario does not say that its claims look at less",
    "conversations": "what happened within each conversation, for the scenario says that its claims look at no more",
    "outcome": "what each actor did and saw, for the scenario says that its claims look at no more",
}


def _past(past: Kind) -> str:
    if isinstance(past, str):
        return PASTS[past]
    kinds = ", ".join(sorted(kind.kind for kind in past))
    return (
        f"what each actor did and saw of {kinds}, for the scenario says that its claims look at no more. Outcomes that "
        "differ in nothing else may not have been counted"
    )


def _of_states(report: Report) -> Iterator[RenderableType]:
    """What the verdict took for granted, and what stood in the way."""
    yield Text()
    yield Text.assemble(
        (plain(report.server), "bold"),
        f": two states are one if the live world is the same and so is {_past(report.scenario.past)}.",
    )
    if report.blind:
        seen = ", ".join(f"{name} ({count:,}×)" for name, count in sorted(report.blind.items()))
        yield Text(f"  States with objects that cannot be seen into are like no other: {plain(seen)}.")


def _violation(report: Report, discovery: Discovery, *, told: bool, width: int) -> RenderableType:
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{plain(report.server)} violates {discovery.invariant}", COLORS["violated"]),
            f" in {discovery.runs:,} of {report.runs:,} orders",
            ":" if told else ". The simplest of them:",
        )
    ]
    if told:
        parts.append(Text("  " + plain(discovery.message, width - 2)))
    else:
        parts += [Text(), *_told(report, discovery, width)]
    parts.append(replay_line(failure.replay_line(report.scenario, report.subject, discovery.schedule)))
    shown = {discovery.blob}
    for other in report.discoveries[1:] if not told else ():
        same = other.blob in shown
        where = f" in {other.runs:,} orders{', this one among them' if same else ''}: "
        parts += [Text(), Text.assemble((f"It also violates {other.invariant}", "red"), where, plain(other.message))]
        if not same:
            parts.append(replay_line(failure.replay_line(report.scenario, report.subject, other.schedule)))
            shown.add(other.blob)
    return Group(*parts)


def _told(report: Report, discovery: Discovery, width: int) -> list[RenderableType]:
    try:
        case = make_case(report, discovery)
    except SimError as exc:
        return [Text(f"The run could not be repeated for its story: {exc}"), Text()]
    return [story_text(case.story), Text(), diagram_text(case.diagram, width), Text()]


def story_text(story: Story) -> Text:
    """A story, the line where the claim breaks and the claim itself in red."""
    text = Text(no_wrap=True)
    rows = list(story.rows())
    gutter = max((len(time) for time, _, _ in rows), default=0)
    for time, told, broken in rows:
        text.append(f"  {time:>{gutter}} ", "dim")
        text.append(f"{'✗' if broken else ' '} {told}\n", "bold red" if broken else "")
    if story.invariant is not None:
        first, *others = story.verdict()
        text.append(f"  {first}\n", "bold red")
        text.append("".join(f"  {line}\n" for line in others))
    text.right_crop(1)
    return text


def diagram_text(diagram: Diagram, width: int = WIDTH) -> Text:
    """A sequence diagram, the row where the claim breaks in red."""
    text = Text(no_wrap=True)
    for line in diagram.to_text(width=min(width - 4, WIDTH)).splitlines():
        text.append(line + "\n", "bold red" if line.endswith("✗") else "")
    text.right_crop(1)
    return text


def replay_line(line: str) -> Text:
    """What to paste. It must be printed with `soft_wrap`, or it is broken into pieces."""
    return Text.assemble("  replay it:  ", (line, "bold cyan"), no_wrap=True, overflow="ignore")


def observations(reports: Sequence[Report]) -> Text:
    """The scenario's names for what the runs came to, and how many did, of reports that do not differ in that."""
    servers = ", ".join(plain(report.server) for report in reports)
    each = ", each" if len(reports) > 1 else ""
    text = Text.assemble("What the orders on ", (servers, "bold"), f" came to{each}:", no_wrap=True)
    observed = reports[0].observed
    width = max(len(f"{o.runs:,}") for o in observed)
    for observation in observed:
        text.append(f"\n  {observation.runs:>{width},}  {plain(observation.name)}")
    return text


def reductions(reports: Sequence[Report]) -> Text:
    """Why there are fewer runs than orders, what is the same all the same, and what that takes for granted."""
    text = Text()
    for name in reports[0].reduce:
        reduction = REDUCTIONS[name]
        text.append(f"--reduce {name}: one run for each {reduction.unit}.\n")
        text.append(f"  It preserves {reduction.preserves}.\n")
    for report in reports:
        if report.abandoned:
            again = "run was" if report.abandoned == 1 else "runs were"
            text.append(
                f"  {plain(report.server)}: {report.abandoned:,} more {again} broken off as repeating another.\n"
            )
    for assumed in dict.fromkeys(a for report in reports for a in report.assumes):
        those = [report for report in reports if assumed in report.assumes]
        text.append(f"  It assumes that {assumed}", "bold yellow")
        if len(those) < len(reports):
            text.append(f", on {', '.join(plain(report.server) for report in those)}", "bold yellow")
        looked = [f"{r.swaps:,} on {plain(r.server)}" for r in those if r.swaps is not None]
        text.append(
            f"; looked for in deliveries that changed places ({', '.join(looked)}).\n" if looked else " (unchecked).\n"
        )
    text.right_crop(1)
    return text


def check_page(reports: Sequence[Report], *, width: int = WIDTH) -> Iterator[RenderableType]:
    """All that a check has to say: the table and what goes under it."""
    scenario = reports[0].scenario
    yield Text.assemble((scenario.name, "bold"), f": {plain(scenario.summary)}")
    yield Text()
    yield results_table(reports)
    yield from details(reports, width=width)


def run_page(
    scenario: str, server: str, run: Run, invariant: str | None, *, width: int = WIDTH
) -> Iterator[RenderableType]:
    """All that a replay has to say."""
    broken = ", ".join(i.name for i, _ in run.violations)
    verdict = (f"violates {broken}", COLORS["violated"]) if broken else ("violates nothing", COLORS["holds"])
    yield Text.assemble((f"{plain(scenario)} on {plain(server)}: ", "bold"), verdict)
    if run.observed is not None:
        yield Text(f"What it came to: {plain(run.observed)}")
    if run.cut is not None:
        yield Text(f"It was cut short by a bound: {run.cut}.")
    yield Text()
    yield story_text(tell(run, invariant))
    yield Text()
    yield diagram_text(diagram(run, invariant), width)
