"""`asgi-sim check`: explore a scenario on many servers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sim.cli.output import print_page, say
from sim.errors import SimError, UsageError
from sim.exits import complain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from sim.check.subject import Subject
    from sim.search.report import Report
    from sim.show.progress import ProgressView

PICTURES = (".png", ".svg", ".pdf")
SEARCHES = ("exhaustive", "depth-first", "random", "pct", "pos", "coverage", "hypothesis")
GRANULARITIES = ("turn", "iteration")
ARRIVALS = ("single", "merged", "any")
REDUCTIONS = ("classes", "states")
AT_LEAST_1 = click.IntRange(min=1)
ABOVE_0 = click.FloatRange(min=0, min_open=True)


def _params(_ctx: click.Context, _option: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise UsageError(f"--param {value!r} is not of the form NAME=VALUE.")
        given[name] = text
    return given


def _faults(_ctx: click.Context, _option: click.Parameter, value: str | None) -> dict[str, int] | None:
    if value is None:
        return None
    from sim.world.faults import Faults

    return Faults.parse(value)


@click.command("check", short_help="Run every order that a scenario allows, and judge each.")
@click.argument("scenario")
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="REQ",
    help="A server, such as hypercorn, granian==1.4.1 or "
    "uvicorn[h11,wsproto]==0.52.0; may be given several times. A version that is not installed is searched in an "
    "environment that is made and cached for it. Default: all that the scenario names.",
)
@click.option(
    "--with",
    "also",
    multiple=True,
    metavar="REQ",
    help="A distribution to have beside each server, such as starlette==0.38.2, in an environment that is made and "
    "cached for it; may be given several times.",
)
@click.option(
    "--python",
    metavar="X",
    help="The Python to search with, a version such as 3.12 or a path, likewise. Default: this.",
)
@click.option(
    "--search",
    type=click.Choice(SEARCHES),
    default=SEARCHES[0],
    show_default=True,
    help="The way to search: exhaustive and depth-first run every order, the others draw some.",
)
@click.option("--seed", type=int, metavar="N", help="Of what a search draws. Default: 0.")
@click.option(
    "--stop-early/--go-on",
    default=None,
    help="Whether to stop at the first order that breaks something. Default: searches that draw do.",
)
@click.option(
    "--granularity",
    type=click.Choice(GRANULARITIES),
    help="turn: things arrive while the event loop is idle; "
    "iteration: also between two iterations of the loop. Default: the scenario's own.",
)
@click.option(
    "--arrivals",
    type=click.Choice(ARRIVALS),
    help="single: each segment arrives alone; merged: with all of its connection that may have arrived by then; any: with "
    "how many is a choice. Default: the scenario's own.",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_params,
    help="A parameter of the scenario; may be given several times. asgi-sim list shows them.",
)
@click.option(
    "--max-runs",
    type=AT_LEAST_1,
    metavar="N",
    help="Bound on the orders. Default: 1,000,000; 10,000 if they are drawn.",
)
@click.option(
    "--reduce",
    multiple=True,
    metavar="NAME[,NAME]",
    help="none: every order is run (the default). "
    "classes: one order of each class whose orders differ only in steps that do not concern one another. It preserves "
    "the set of outcomes, and of violated invariants that depend on outcome and causes; not how many orders violate one. "
    "states: a run ends where it comes to a state of the world that was seen. It preserves the set of outcomes and of "
    "violated invariants, as far as the scenario says truly what they look at (its `past`), and the states, unless one "
    "connection is explored after the other; not how many orders violate one, nor which is the simplest. "
    "classes,states: both, and only what both preserve. With faults the same is preserved: a fault concerns everything, "
    "and how many may still strike belongs to a state. Where a scenario declares its connections isolated, and its past is "
    "types of events, both explore one connection after the other, and the table says so.",
)
@click.option(
    "--check-isolation",
    is_flag=True,
    default=None,
    help="With --reduce classes and a scenario that declares its connections isolated: look, in a sample of runs, "
    "whether they are.",
)
@click.option("--max-choices", type=AT_LEAST_1, metavar="N", help="Bound on the choices in one order. Default: 10,000.")
@click.option(
    "--max-seconds", type=ABOVE_0, metavar="S", help="Bound on the real seconds for one server. Default: none."
)
@click.option(
    "--horizon", type=ABOVE_0, metavar="S", help="Bound on the virtual seconds of one order. Default: the scenario's."
)
@click.option(
    "--faults",
    metavar="NAME=N,...",
    callback=_faults,
    help="Faults that may strike, and how often in one order: cut, merge, delay, stall, fin, rst, lose, refuse, sigterm, sigint, "
    "cancel, late, clock. Default: the scenario's.",
)
@click.option(
    "--symmetry",
    is_flag=True,
    help="With --reduce states: take clients that the scenario declares alike for one another.",
)
@click.option("--workers", type=AT_LEAST_1, metavar="N", help="Processes to work in. Default: one for each processor.")
@click.option(
    "--executor",
    metavar="URL",
    help="Work elsewhere: dask://HOST:PORT, a Dask scheduler. --workers is then how much to give it at a time.",
)
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep what was done in FILE; if it exists, go on where it ends. The same command resumes a search that was "
    "interrupted or killed. A search that draws, or with --reduce, is then done by one process. Some of the orders in FILE "
    "are run again first; if they come otherwise (code was changed, or depends on PYTHONHASHSEED), it says so and ends.",
)
@click.option(
    "--graph",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write a picture of the state "
    "graph of the first server with a violation (or of the first server) there: .png, .svg or .pdf.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def check(
    scenario: str,
    servers: tuple[str, ...],
    also: tuple[str, ...],
    python: str | None,
    params: dict[str, str],
    workers: int | None,
    executor: str | None,
    checkpoint: Path | None,
    graph: Path | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Explore SCENARIO: run every order that it allows, on each server, and judge each.

    SCENARIO is a name that asgi-sim list shows, or module:attribute of one of your own.

    A bound that is reached makes a verdict inconclusive, never "holds"; the exit code is then still 0.

    \b
    Examples:
      asgi-sim check unsolicited_pong --graph pong.png
      asgi-sim check unsolicited_pong --server granian==1.4.1 --param receiving=echo
      asgi-sim check hello --param app=main:app --server hypercorn --json
      asgi-sim check hello --server "uvicorn[h11,wsproto]==0.20.0" --with h11==0.14.0 --python 3.10
      asgi-sim check independent_echoes --reduce states
    """
    from sim.registry import find_scenario
    from sim.search.elsewhere import find_anywhere
    from sim.search.parallel import explore_many
    from sim.show.picture import Picture
    from sim.show.table import check_page

    found = find_scenario(scenario)
    found.arguments(params)
    asked = [find_anywhere(server, also=also, python=python) for server in servers or found.servers]
    subjects = {subject.requirement: subject for subject in asked}
    names = list(subjects)
    if not names:
        raise UsageError(f"the scenario {found.name!r} names no servers. Name one with --server.")
    if graph is not None:
        _prepare(graph)
    given = {name: value for name, value in settings.items() if value not in (None, (), False)}
    errors: dict[str, SimError] = {}
    drawn: Report | None = None
    ready = _prepared(subjects, errors)
    with _progress(names) as view, _workers(workers, executor, view) as (pool, at_once):
        draws = pool if len(names) > 1 and executor is None else None
        picture = Picture(scenario, names, graph, draws) if graph is not None else None

        def finished(report: Report) -> None:
            view.report(report)
            if picture is not None:
                picture.finished(report.server, report)

        def failed(server: str, error: SimError) -> None:
            errors[server] = error
            view.error(server, error)
            if picture is not None:
                picture.finished(server, None)

        for server, error in list(errors.items()):
            failed(server, error)
        reports = explore_many(
            scenario,
            ready,
            workers=at_once,
            executor=pool,
            checkpoint=checkpoint,
            params=params,
            on_progress=view.progress,
            on_report=finished,
            on_error=failed,
            **given,
        )
        if picture is not None:
            drawn = picture.finish()
    if as_json:
        _out_json(scenario, reports, errors)
    elif reports:
        print_page(lambda width: check_page(reports, width=width))
        if drawn is not None:
            click.echo(f"\nState graph of {drawn.server}: {graph}")
    _complain_of(errors, names)
    if errors:
        return max(error.exit_code for error in errors.values())
    return 1 if any(r.verdict == "violated" for r in reports) else 0


def _prepared(subjects: dict[str, Subject], errors: dict[str, SimError]) -> list[Subject | str]:
    """What to search, with its environment made if it needs one; what could not be made is noted in `errors`."""
    from sim.search.elsewhere import Elsewhere
    from sim.search.unit import portable

    ready: list[Subject | str] = []
    for name, subject in subjects.items():
        try:
            if isinstance(subject, Elsewhere):
                subject.prepare(say)
        except SimError as exc:
            errors[name] = exc
        else:
            ready.append(portable(subject))
    return ready


def _complain_of(errors: dict[str, SimError], names: Sequence[str]) -> None:
    """Say what went wrong, what all servers have in common once."""
    by_message: dict[str, list[str]] = {}
    for server, error in errors.items():
        by_message.setdefault(str(error), []).append(server)
    for message, servers in by_message.items():
        complain(message if len(servers) == len(names) > 1 else f"{', '.join(servers)}: {message}")


def _progress(names: Sequence[str]) -> ProgressView:
    from rich.console import Console

    from sim.show.progress import ProgressView

    return ProgressView(Console(stderr=True), names)


@contextlib.contextmanager
def _workers(workers: int | None, address: str | None, view: ProgressView) -> Iterator[tuple[Executor | None, int]]:
    """Who works, and how much of it at a time; None where this process is enough."""
    from sim.search.pool import default_workers, executor_at, worker_pool

    if address is not None:
        with executor_at(address) as (executor, threads):
            yield executor, workers if workers is not None else threads
    elif default_workers(workers) == 1:
        yield None, 1
    else:
        with worker_pool(default_workers(workers), on_progress=view.progress) as pool:
            yield pool, pool.workers


def _prepare(path: Path) -> None:
    """See to it that a picture can be written, before an hour's work is done for it."""
    if path.suffix not in PICTURES:
        raise UsageError(f"--graph {path}: the name must end in one of {', '.join(PICTURES)}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as exc:
        raise UsageError(f"--graph {path} cannot be written: {exc.strerror}.") from None


def _out_json(scenario: str, reports: Sequence[Report], errors: dict[str, SimError]) -> None:
    import json

    answer: dict[str, Any] = {"scenario": scenario, "subjects": [r.to_json() for r in reports]}
    if errors:
        answer["errors"] = [{"server": s, "error": type(e).__name__, "message": str(e)} for s, e in errors.items()]
    click.echo(json.dumps(answer, indent=2))
