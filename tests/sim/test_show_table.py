"""Reports on a terminal and in a notebook: everything there, and nothing of it taken for markup."""

from __future__ import annotations

import asyncio
import io
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from rich.console import Console

from sim import Violation, always, sometimes
from sim.errors import UsageError
from sim.search.explore import Progress
from sim.show.case import make_case
from sim.show.html import report_html
from sim.show.progress import Forecast, ProgressView, in_words
from sim.show.table import check_page, reductions, results_table, run_page, story_text

from .showing import pong_run
from .toys import Toy, noted, picking, search, toy_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim import Report, Trace
    from sim.show.story import Story

HOSTILE = "<script>alert(1)</script> & [bold]x[/bold] \x1b[31m"


@always("no-ones", f"Nothing is 1. {HOSTILE}")
def no_ones(trace: Trace) -> Violation | None:
    return Violation(f"it is 1 {HOSTILE}") if 1 in noted(trace)[0] else None  # type: ignore[operator]


@always("no-twos", "Nothing is 2.")
def no_twos(trace: Trace) -> Violation | None:
    return Violation("it is 2") if 2 in noted(trace)[0] else None  # type: ignore[operator]


def printed(*parts: Any, color: bool = False, width: int = 100) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=color, color_system="standard" if color else None, highlight=False
    )
    for part in parts:
        console.print(part, soft_wrap=True)
    return out.getvalue()


def test_a_row_for_each_report() -> None:
    holds = search(picking(2, 2))
    violated = search(picking(3), no_ones)
    bounded = search(picking(2, 2), max_runs=1)
    lines = printed(results_table([holds, violated, bounded])).splitlines()
    assert lines[0].split() == ["server", "kind", "verdict", "orders", "complete", "outcomes", "seconds"]
    assert [line.split()[:-1] for line in lines[2:]] == [
        ["toy==1", "model", "holds", "4", "yes", "4"],
        ["toy==1", "model", "violated", "3", "yes", "3"],
        ["toy==1", "model", "inconclusive", "1", "no:", "max-runs=1", "1"],
    ]


def test_verdicts_have_colours_on_a_terminal() -> None:
    report = search(picking(2))
    assert "\x1b[1;32mholds" in printed(results_table([report]), color=True)
    assert "\x1b[" not in printed(results_table([report]))


def page(*reports: Report) -> str:
    return printed(*check_page(reports))


def test_the_first_violation_is_told_in_full_and_the_others_in_a_line() -> None:
    first, second = search(picking(3), no_ones, no_twos), search(picking(3), no_twos)
    text = page(first, second)
    assert text.count("The simplest of them:") == 1
    assert text.count("broken: ") == 1
    assert "toy==1 violates no-ones in 1 of 3 orders" in text
    assert "It also violates no-twos in 1 orders: it is 2" in text
    assert "toy==1 violates no-twos in 1 of 3 orders:\n  it is 2\n" in text
    for discovery in (*first.discoveries, *second.discoveries):
        assert discovery.blob in text


def test_discoveries_of_one_run_share_their_replay_line() -> None:
    report = search(picking(2), no_ones, always("also", "Not 1 either.")(no_ones.check))
    text = page(report)
    assert "this one among them" in text
    assert text.count(report.discoveries[0].blob) == 1


def test_replay_lines_are_never_broken() -> None:
    report = search(picking(3), no_ones)
    text = printed(*check_page([report], width=40), width=40)
    assert any(report.discoveries[0].blob in line for line in text.splitlines())


def test_nothing_is_taken_for_markup() -> None:
    text = page(search(picking(2), no_ones))
    assert "[bold]x[/bold]" in text
    assert "\x1b" not in text
    assert "\\x1b[31m" in text


def test_names_of_what_runs_came_to_are_counted() -> None:
    report = search(
        picking(3), scenario={"observe": lambda trace: "one [of] them" if 1 in noted(trace)[0] else "another"}
    )  # type: ignore[operator]
    text = page(report)
    assert "What the orders on toy==1 came to:\n  2  another\n  1  one [of] them\n" in text


def test_subjects_that_came_to_the_same_are_told_together() -> None:
    report = search(picking(3), scenario={"observe": lambda trace: "one" if 1 in noted(trace)[0] else "another"})  # type: ignore[operator]
    text = page(report, attrs.evolve(report, server="toy==2"))
    assert "What the orders on toy==1, toy==2 came to, each:\n  2  another\n  1  one\n" in text


def test_one_name_alone_is_not_worth_a_list() -> None:
    assert "came to" not in page(search(picking(3), scenario={"observe": lambda _: "always this"}))


def test_inconclusive_says_how_to_go_on() -> None:
    text = page(search(picking(2, 2), max_runs=1))
    assert "toy==1 is inconclusive: the search ended by max-runs=1. To go on, raise --max-runs." in text


def test_a_witness_that_is_missing_is_told_by_the_plainest_run() -> None:
    @sometimes("a-nine", "Some run picks 9.")
    def nine(trace: Trace) -> Violation | None:
        return None if 9 in noted(trace)[0] else Violation("no 9")  # type: ignore[operator]

    report = search(picking(2), nine)
    case = make_case(report, report.discoveries[0])
    assert case.story.invariant == "a-nine"
    assert "no run shows it" in str(case.story)


def test_a_run_that_cannot_be_repeated_is_said_so() -> None:
    report = search(picking(2), no_ones)
    other = attrs.evolve(report, scenario=toy_scenario(picking(2), name="renamed"))
    assert "could not be repeated" in page(other)
    assert "could not be repeated" in report_html(other)


def test_a_page_for_a_replay() -> None:
    run = pong_run()
    text = printed(*run_page("a scenario", "toy==1", attrs.evolve(run, observed="trouble", cut="horizon"), None))
    assert text.startswith("a scenario on toy==1: violates pong-no-flow-error, texts-echoed\n")
    assert "What it came to: trouble" in text
    assert "cut short by a bound: horizon" in text
    assert "broken: A Pong never causes a flow error." in text
    assert "──▶│" in text


def test_story_as_text_is_the_story() -> None:
    story: Story = make_case(*_violated()).story
    shown = printed(story_text(story)).splitlines()
    assert [line.strip() for line in shown] == [line.strip() for line in str(story).splitlines()]


def _violated() -> tuple[Report, Any]:
    report = search(picking(3), no_ones)
    return report, report.discoveries[0]


class Tags(HTMLParser):
    """Collects the tags and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.seen.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_escaped_and_well_formed() -> None:
    scenario = toy_scenario(picking(3), no_ones, observe=lambda trace: f"{HOSTILE} {noted(trace)[0]}")
    from sim import explore

    html = report_html(explore(scenario, server=Toy(requirement="toy[<b>]==1")))
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.seen <= {
        "div",
        "strong",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "p",
        "pre",
        "code",
        "details",
        "summary",
    }
    assert "toy[&lt;b&gt;]==1" in html
    assert "&lt;script&gt;" in html


def test_jupyter_gets_what_it_asks_for() -> None:
    report = search(picking(3), no_ones)
    bundle = report._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert set(report._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}
    assert set(report._repr_mimebundle_(exclude={"text/plain"})) == {"text/html"}
    assert report._repr_mimebundle_(include={"image/png"}) == {}
    assert bundle["text/html"] == report._repr_html_()
    assert "<pre>" in bundle["text/html"]


def test_repr_plays_nothing() -> None:
    report = search(picking(3), no_ones)
    assert repr(attrs.evolve(report, scenario=toy_scenario(lambda *_: 1 / 0))) == repr(report)


def view(*servers: str, terminal: bool = False) -> tuple[ProgressView, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    return ProgressView(console, servers), out


def test_progress_without_a_terminal_is_silent() -> None:
    shown, out = view("toy==1", "x[y]")
    with shown:
        shown.progress("toy==1", Progress(5, 100.0, 1, 0))
        shown.report(search(picking(2)))
        shown.error("x[y]", UsageError("no"))
    assert out.getvalue() == ""


def test_progress_on_a_terminal_disappears() -> None:
    shown, out = view("toy==1", "later", "broken", terminal=True)
    with shown:
        shown.progress("toy==1", Progress(5, 0.1, 1, 1))
        assert "violated so far" in printed(shown._table())
        shown.error("broken", UsageError("no"))
        shown.report(search(picking(2)))
        rows = [line.split() for line in printed(shown._table()).splitlines()]
    assert [row[0] for row in rows] == ["toy==1", "later", "broken"]
    assert rows[1:] == [["later", "waits"], ["broken", "UsageError"]]
    assert rows[0][-1] == "holds"
    assert re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", out.getvalue()).strip() == "" or "\x1b[2K" in out.getvalue()


def test_progress_shows_rate_and_frontier() -> None:
    shown, _ = view("toy==1", terminal=True)
    shown.progress("toy==1", Progress(5000, 2.0, 1, 0, 17, 0.99))
    row = " ".join(printed(shown._table()).split())
    assert row.endswith("toy==1 5,000 orders 2.0 s 2,500/s frontier 17")


def forecasts(totals: Callable[[float], float], *, runs: int = 1000) -> list[float | None]:
    """What is said after each of so many orders of a search that takes a second for each, if the share explored is
    such that there seem to be `totals(runs)`."""
    forecast, said = Forecast(), []
    for done in range(1, runs):
        forecast.note(Progress(done, float(done), 1, 0, 1, 1 - done / totals(done)))
        said.append(forecast.seconds_left())
    return said


def test_an_even_search_says_how_long_it_will_take() -> None:
    said = forecasts(lambda _runs: 1000.0)
    assert set(said[:240]) == {None}
    assert said[260:] == [pytest.approx(1000 - done) for done in range(261, 1000)]


def test_a_guess_that_creeps_is_not_told() -> None:
    """Trees of real servers: the farther the search is, the more there seems to be."""
    assert set(forecasts(lambda runs: 700 + runs)) == {None}


def test_a_guess_is_told_when_it_has_settled() -> None:
    said = forecasts(lambda runs: 3000.0 if runs < 300 else 1000.0)
    assert set(said[:595]) == {None}
    assert said[-1] == pytest.approx(1)


def test_forecasts_of_nothing() -> None:
    forecast = Forecast()
    assert forecast.seconds_left() is None
    for runs, share in ((0, 1.0), (1, 1.0), (9, 0.0)):
        forecast.note(Progress(runs, 0.1, 1, 0, 1, share))
        assert forecast.seconds_left() is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.2, "~1 s left"),
        (7.4, "~7 s left"),
        (43, "~45 s left"),
        (200, "~3 min left"),
        (40_000, "~10 h left"),
    ],
)
def test_what_is_left_in_words(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words


def test_jupyter_has_a_loop_running_when_it_shows_a_report() -> None:
    report = search(picking(3), no_ones)

    async def cell() -> str:
        return report._repr_html_()

    assert asyncio.run(cell()) == report._repr_html_()


def test_an_assumption_that_some_servers_need_names_them() -> None:
    report = attrs.evolve(search(picking(2)), reduce=("classes",))
    one, two = attrs.evolve(report, server="one", assumes=("a",)), attrs.evolve(report, server="two", assumes=("b",))
    assert reductions([one, one]).plain.endswith("It assumes that a (unchecked).")
    told = reductions([one, attrs.evolve(two, swaps=3)]).plain.splitlines()
    assert [line.strip() for line in told[-2:]] == [
        "It assumes that a, on one (unchecked).",
        "It assumes that b, on two; looked for in deliveries that changed places (3 on two).",
    ]
