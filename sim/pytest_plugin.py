"""The pytest plugin: a test explores a scenario against servers, and fails with a story and the line that replays it.

    @pytest.mark.sim("unsolicited_pong", servers=["hypercorn", "uvicorn[h11,wsproto]"])
    def test_a_pong_does_no_harm(sim_report):
        sim_report.check()

The fixture `sim_report` runs the test once for each server and gives it the `sim.Report`. The marker takes a scenario
(its name, `module:attribute`, or a `sim.Scenario`), and by keyword `servers` (default: the scenario's own; a server is
a requirement, a `sim.Subject`, or a `pytest.param` of one), `params`, `search`, `seed`, `stop_early`, and those of
`OPTIONS`. Markers of a class, a module or a `pytest.param` add what the function's own does not say; the closest one
counts.

How a search is bounded is decided by the first of these that says something: the command line (`--sim-max-runs`),
the environment (`SIM_MAX_RUNS`), the marker (`max_runs=`), the configuration file (`sim_max_runs`), and last
`sim.explore` itself. So what is said about this one run comes first, and what is said about a test before what is said
about all of them.

This module imports pytest and the standard library only; the engine is imported when a test is collected that uses it.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from sim.check.scenario import Scenario
    from sim.check.subject import Subject
    from sim.search.report import Report
    from sim.search.schedule import Schedule

FIXTURE = "sim_report"
SECTION = "Simulation"
EXAMPLE = '@pytest.mark.sim("SCENARIO", servers=["SERVER", ...])'


class Option(NamedTuple):
    """A setting that can be given in many places, by its name as a keyword of `sim.explore`."""

    name: str
    metavar: str
    read: Callable[[str], Any]
    takes: str
    help: str

    @property
    def flag(self) -> str:
        """On the command line."""
        return f"--sim-{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """In the environment."""
        return f"SIM_{self.name.upper()}"

    @property
    def key(self) -> str:
        """In the configuration file."""
        return f"sim_{self.name}"

    def value(self, given: Any, where: str) -> Any:
        """What was given, if it is allowed.

        Raises:
            pytest.UsageError: it is not.
        """
        try:
            return self.read(str(given))
        except ValueError:
            raise pytest.UsageError(f"{where}={given!r} is not possible. It can be: {self.takes}.") from None


def _granularity(text: str) -> str:
    if text not in ("turn", "iteration"):
        raise ValueError
    return text


def _arrivals(text: str) -> str:
    if text not in ("single", "merged", "any"):
        raise ValueError
    return text


def _count(text: str) -> int:
    if int(text) <= 0:
        raise ValueError
    return int(text)


def _seconds(text: str) -> float:
    if not float(text) > 0:
        raise ValueError
    return float(text)


OPTIONS = (
    Option(
        "granularity",
        "WHEN",
        _granularity,
        "turn, iteration",
        "when things may arrive: 'turn', while the event loop is idle, or 'iteration', also between its iterations",
    ),
    Option(
        "arrivals",
        "HOW",
        _arrivals,
        "single, merged, any",
        "whether segments of one connection arrive together: 'single', 'merged', or 'any', where it is a choice",
    ),
    Option("max_runs", "N", _count, "a whole number above 0", "bound on the number of runs of each search"),
    Option("max_choices", "N", _count, "a whole number above 0", "bound on the choices of each run"),
    Option("max_seconds", "SECONDS", _seconds, "a number above 0", "bound on the real time of each search"),
    Option("horizon", "SECONDS", _seconds, "a number above 0", "bound on the virtual time of each run"),
)
KEYWORDS = (
    "servers",
    "params",
    "faults",
    "search",
    *(option.name for option in OPTIONS),
    "seed",
    "stop_early",
    "reduce",
    "symmetry",
    "check_isolation",
)


class _Plan(NamedTuple):
    """What the command line, the environment and the configuration file say."""

    over: dict[str, Any]
    under: dict[str, Any]
    said: list[str]
    schedule: Schedule | None


_PLAN = pytest.StashKey[_Plan]()
_REPORT = pytest.StashKey["Report"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Each option, on the command line and in the configuration file."""
    group = parser.getgroup("sim", "deterministic simulation (asgi-sim)")
    for option in OPTIONS:
        also = f" (environment: {option.variable}; configuration file: {option.key})"
        group.addoption(option.flag, metavar=option.metavar, default=None, help=option.help + also)
        parser.addini(option.key, f"as {option.flag}: {option.help}", default=None, type=_ini_type(option))
    group.addoption(
        "--sim-replay", metavar="BLOB", default=None, help="run this one schedule instead of searching, in its own test"
    )


def _ini_type(option: Option) -> Any:
    """So that `sim_max_runs = 200` can be a number in TOML, where pytest knows of such types."""
    if pytest.version_tuple < (8, 4):
        return None
    return "int" if option.read is _count else "float" if option.read is _seconds else "string"


def pytest_configure(config: pytest.Config) -> None:
    """Read all of that, so that a mistake ends the session before it begins."""
    config.addinivalue_line(
        "markers",
        f"sim(scenario, **settings): explore a scenario against servers; the fixture {FIXTURE} is the sim.Report. "
        f"Settings: {', '.join(KEYWORDS)}.",
    )
    over: dict[str, Any] = {}
    under: dict[str, Any] = {}
    said = []
    for option in OPTIONS:
        flag = config.getoption(option.flag)
        variable = os.environ.get(option.variable) or None
        if flag is not None:
            over[option.name] = option.value(flag, option.flag)
        elif variable is not None:
            over[option.name] = option.value(variable, option.variable)
        try:
            key = config.getini(option.key)
        except (TypeError, ValueError, pytest.UsageError) as exc:
            raise pytest.UsageError(f"{option.key}: {exc}. It can be: {option.takes}.") from None
        if key not in (None, ""):
            under[option.name] = option.value(key, option.key)
        if option.name in over:
            said.append(f"{option.name}={over[option.name]} ({option.flag if flag is not None else option.variable})")
        elif option.name in under:
            said.append(f"{option.name}={under[option.name]}")
    config.stash[_PLAN] = _Plan(over, under, said, _schedule(config.getoption("--sim-replay")))


def _schedule(blob: str | None) -> Schedule | None:
    if blob is None:
        return None
    from sim.errors import UsageError
    from sim.search.schedule import Schedule

    try:
        return Schedule.from_blob(blob)
    except UsageError as exc:
        raise pytest.UsageError(f"--sim-replay: {exc}") from None


def pytest_report_header(config: pytest.Config) -> str:
    """One line: what is decided for all tests."""
    plan = config.stash[_PLAN]
    if plan.schedule is not None:
        return f"sim: replays one schedule of {plan.schedule.scenario} on {plan.schedule.server}"
    return f"sim: {' '.join(plan.said) or 'bounds as each test and scenario says'}"


# Collecting.


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Once for each server."""
    markers = list(metafunc.definition.iter_markers("sim"))
    if FIXTURE not in metafunc.fixturenames:
        if any(mark.name == "sim" for mark in metafunc.definition.own_markers):
            _refuse(metafunc, f"is marked as sim and asks for no {FIXTURE}: add that to its arguments.")
        return
    if not markers:
        _refuse(metafunc, f"asks for {FIXTURE} and is not marked: write {EXAMPLE} above it.")
    from sim.errors import UsageError

    try:
        scenario, given = _wanted(markers)
        servers = _servers(scenario, given, metafunc.config.stash[_PLAN].schedule)
    except (UsageError, pytest.UsageError) as exc:
        _refuse(metafunc, f"cannot be collected: {exc}")
    metafunc.parametrize(FIXTURE, servers, ids=_requirement, indirect=True)


def _refuse(metafunc: pytest.Metafunc, why: str) -> None:
    path, line, name = metafunc.definition.location
    raise pytest.Collector.CollectError(f"{path}:{(line or 0) + 1}: {name} {why}")


def _wanted(markers: list[pytest.Mark]) -> tuple[Scenario, dict[str, Any]]:
    """The scenario and the settings that markers name, closest first.

    Raises:
        sim.UsageError: there is no such scenario, or it takes no such parameter, or a marker no such thing.
        pytest.UsageError: a setting has a value that it cannot have.
    """
    from sim.check.scenario import Scenario
    from sim.errors import UsageError
    from sim.registry import find_scenario

    given: dict[str, Any] = {"params": {}}
    for mark in reversed(markers):
        given.update({**mark.kwargs, "params": {**given["params"], **(mark.kwargs.get("params") or {})}})
    named = next((mark.args for mark in markers if mark.args), ())
    unknown = sorted({*given} - {*KEYWORDS})
    if unknown:
        raise UsageError(f"its marker takes no {', '.join(unknown)}. It takes: {', '.join(KEYWORDS)}.")
    if len(named) != 1:
        raise UsageError(f"its marker names {len(named)} scenarios, and a test explores one: write {EXAMPLE}.")
    scenario = named[0]
    if isinstance(scenario, str):
        scenario = find_scenario(scenario)
    if not isinstance(scenario, Scenario):
        raise UsageError(f"its marker names {scenario!r}, which is neither a scenario nor the name of one.")
    scenario.arguments(given["params"])
    given = {name: value for name, value in given.items() if value is not None}
    for option in OPTIONS:
        if option.name in given:
            given[option.name] = option.value(given[option.name], option.name)
    return scenario, given


def _servers(scenario: Scenario, given: dict[str, Any], schedule: Schedule | None) -> list[Any]:
    """The servers to parametrise over; for a replay only the schedule's, if it is among them."""
    from sim.errors import UsageError
    from sim.search.elsewhere import find_anywhere

    servers = given.get("servers", scenario.servers)
    servers = [servers] if isinstance(servers, str) else list(servers)
    if not servers:
        raise UsageError(f"scenario {scenario.name!r} names no servers, and neither does its marker: {EXAMPLE}.")
    if schedule is None:
        return servers
    values = [server.values[0] if hasattr(server, "values") else server for server in servers]
    subjects = [find_anywhere(value) if isinstance(value, str) else value for value in values]
    same = [server for server, subject in zip(servers, subjects, strict=True) if subject.requirement == schedule.server]
    return same or servers[:1]


def _requirement(server: Any) -> str:
    return server if isinstance(server, str) else str(server.requirement)


# Running.


@pytest.fixture
def sim_report(request: pytest.FixtureRequest) -> Report:
    """What exploring the marked scenario against one server has found out: a `sim.Report`."""
    from sim.errors import SimError
    from sim.search.elsewhere import find_anywhere

    if not hasattr(request, "param"):
        pytest.fail(f"{FIXTURE} needs a marked test: write {EXAMPLE} above it.", pytrace=False)
    plan = request.config.stash[_PLAN]
    try:
        scenario, given = _wanted(_markers(request.node))
        subject = find_anywhere(request.param) if isinstance(request.param, str) else request.param
        report = _explore(scenario, subject, given, plan)
    except (SimError, pytest.UsageError) as exc:
        if request.config.getoption("fulltrace"):
            raise
        raise pytest.fail.Exception(f"{type(exc).__name__}: {exc}", pytrace=False) from None
    request.node.stash[_REPORT] = report
    request.node.user_properties.extend(_properties(report))
    return report


def _markers(item: pytest.Item) -> list[pytest.Mark]:
    """The item's markers, closest first; a `pytest.param`'s own come before the function's."""
    of_params = [mark for mark in getattr(getattr(item, "callspec", None), "marks", ()) if mark.name == "sim"]
    return [*of_params, *(mark for mark in item.iter_markers("sim") if mark not in of_params)]


def _explore(scenario: Scenario, subject: Subject, given: dict[str, Any], plan: _Plan) -> Report:
    from sim.search.explore import explore

    if plan.schedule is not None:
        return _replay(scenario, subject, given, plan.schedule)
    settings = {**plan.under, **{k: v for k, v in given.items() if k != "servers"}, **plan.over}
    return explore(scenario, server=subject, **settings)


def _replay(scenario: Scenario, subject: Subject, given: dict[str, Any], schedule: Schedule) -> Report:
    """A report on one run.

    Raises:
        sim.UsageError: the schedule is another test's.
    """
    from sim.errors import UsageError
    from sim.search.explore import replayed

    for what, theirs, ours in (
        ("scenario", schedule.scenario, scenario.name),
        ("server", schedule.server, subject.requirement),
        ("parameters", scenario.arguments(schedule.params), scenario.arguments(given["params"])),
    ):
        if theirs != ours:
            raise UsageError(
                f"--sim-replay: the schedule is of {what} {theirs!r}, and this test explores {ours!r}. Select the test "
                "that printed it."
            )
    return replayed(schedule, scenario=scenario, server=subject)


# Reporting.


def _properties(report: Report) -> Iterator[tuple[str, object]]:
    """Plain data, for reports in XML and JSON, and across processes."""
    yield "sim_scenario", report.scenario.name
    yield "sim_server", report.server
    yield "sim_verdict", report.verdict
    yield "sim_runs", report.runs
    yield "sim_outcomes", report.outcomes
    if report.bound is not None:
        yield "sim_bound", str(report.bound)
    if report.discovery is not None:
        yield "sim_schedule", report.discovery.blob


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give a failure the story as a section of its own, and say in its place only what is wrong."""
    found = item.stash.get(_REPORT, None)
    if found is None or found.discovery is None or call.when != "call" or call.excinfo is None:
        return (yield)
    from sim.search.failure import CheckFailed, violated

    raised = call.excinfo.value
    ours = raised if isinstance(raised, CheckFailed) else None
    if ours is not None and item.config.getoption("showcapture") == "all":
        ours.args = (ours.summary,)
    report = yield
    if report.failed:
        failure = ours if ours is not None else violated(found, found.discovery)
        told = failure.story if ours is not None else f"{failure.summary}\n\n{failure.story}"
        report.sections.append((SECTION, f"{told}\n\n{_line(item, found, failure)}"))
    return report


def _line(item: pytest.Item, report: Report, failure: Any) -> str:
    from sim.search.failure import findable

    if report.discovery is None or findable(report.scenario, report.subject):
        return str(failure.replay_line)
    return f"pytest {shlex.quote(item.nodeid)} --sim-replay {report.discovery.blob}"
