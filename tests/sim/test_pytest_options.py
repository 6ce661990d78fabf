"""What the plugin takes from the command line, the environment and the configuration file, and which of them counts."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import sim.search.explore  # noqa: F401 - so that sessions inside this process do not import the engine a second time

if TYPE_CHECKING:
    from pytest import Pytester  # noqa: PT013

STORY = """
    import json

    import attrs
    import sim


    @attrs.frozen
    class Toy:
        requirement: str = "toy==1"
        kind: str = "model"
        versions: dict = attrs.field(factory=dict)


    scenario = sim.Scenario("toy", "A story.", lambda world, subject: world.choose("abcdefgh", "a letter"), ())
"""
SHOW = """
    import pytest
    from story import *

    @pytest.mark.sim(scenario, servers=[Toy()]{marker})
    def test_it(sim_report):
        del sim_report.settings["params"], sim_report.settings["search"]
        print("settings", json.dumps(sim_report.settings, sort_keys=True))
        assert 0
"""
DEFAULTS = {
    "arrivals": None,
    "faults": None,
    "granularity": None,
    "horizon": None,
    "max_choices": 10_000,
    "max_runs": 1_000_000,
    "max_seconds": None,
    "reduce": [],
    "seed": 0,
    "stop_early": False,
    "symmetry": False,
    "check_isolation": False,
}


@pytest.fixture
def project(pytester: Pytester, monkeypatch: pytest.MonkeyPatch) -> Pytester:
    for name in ("GRANULARITY", "ARRIVALS", "MAX_RUNS", "MAX_CHOICES", "MAX_SECONDS", "HORIZON"):
        monkeypatch.delenv(f"SIM_{name}", raising=False)
    pytester.makepyfile(story=STORY)
    return pytester


def settings(project: Pytester, *args: str, marker: str = "", ini: str = "") -> dict[str, object]:
    """The settings of the search in one test's report."""
    import json

    project.makeini(f"[pytest]\n{ini}")
    project.makepyfile(test_it=SHOW.format(marker=marker))
    result = project.runpytest("--strict-markers", "--strict-config", *args)
    (line,) = [line for line in result.stdout.lines if line.startswith("settings ")]
    found: dict[str, object] = json.loads(line.partition(" ")[2])
    return found


def test_nothing_said(project: Pytester) -> None:
    assert settings(project) == DEFAULTS


EACH = {
    "granularity": ("iteration", "iteration"),
    "arrivals": ("any", "any"),
    "max_runs": ("7", 7),
    "max_choices": ("3", 3),
    "max_seconds": ("0.5", 0.5),
    "horizon": ("1e3", 1000.0),
}


def test_each_option_in_each_place(project: Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {**DEFAULTS, **{name: value for name, (_, value) in EACH.items()}}
    flags = [f"--sim-{name.replace('_', '-')}={text}" for name, (text, _) in EACH.items()]
    assert settings(project, *flags) == wanted
    assert settings(project, ini="\n".join(f"sim_{name} = {text}" for name, (text, _) in EACH.items())) == wanted
    marker = "".join(f", {name}={value!r}" for name, (_, value) in EACH.items())
    assert settings(project, marker=marker) == wanted
    for name, (text, _) in EACH.items():
        monkeypatch.setenv(f"SIM_{name.upper()}", text)
    assert settings(project) == wanted


def test_the_command_line_before_the_environment_before_the_marker_before_the_file(
    project: Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings(project, ini="sim_max_runs = 4")["max_runs"] == 4
    assert settings(project, ini="sim_max_runs = 4", marker=", max_runs=3")["max_runs"] == 3
    monkeypatch.setenv("SIM_MAX_RUNS", "2")
    assert settings(project, ini="sim_max_runs = 4", marker=", max_runs=3")["max_runs"] == 2
    assert settings(project, "--sim-max-runs=1", ini="sim_max_runs = 4", marker=", max_runs=3")["max_runs"] == 1
    monkeypatch.setenv("SIM_MAX_RUNS", "")
    assert settings(project, ini="sim_max_runs = 4", marker=", max_runs=3")["max_runs"] == 3


def test_one_line_of_the_header_says_what_is_decided(project: Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project.makeini("[pytest]\nsim_horizon = 60\nsim_max_runs = 5\n")
    monkeypatch.setenv("SIM_GRANULARITY", "turn")
    result = project.runpytest("--sim-max-runs=9")
    lines = [line for line in result.stdout.lines if line.startswith("sim:")]
    assert lines == ["sim: granularity=turn (SIM_GRANULARITY) max_runs=9 (--sim-max-runs) horizon=60.0"]


@pytest.mark.parametrize(
    ("name", "text", "takes"),
    [
        ("granularity", "step", "turn, iteration"),
        ("arrivals", "late", "single, merged, any"),
        ("max_runs", "many", "a whole number above 0"),
        ("max_runs", "0", "a whole number above 0"),
        ("max_choices", "1.5", "a whole number above 0"),
        ("max_seconds", "-1", "a number above 0"),
        ("horizon", "nan", "a number above 0"),
    ],
)
def test_a_bad_value_ends_the_session_and_says_what_is_possible(
    project: Pytester, monkeypatch: pytest.MonkeyPatch, name: str, text: str, takes: str
) -> None:
    flag = f"--sim-{name.replace('_', '-')}"
    result = project.runpytest(f"{flag}={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {flag}='{text}' is not possible. It can be: {takes}."])
    project.makeini(f"[pytest]\nsim_{name} = {text}")
    result = project.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: sim_{name}*It can be: {takes}."])
    project.makeini("[pytest]\n")
    monkeypatch.setenv(f"SIM_{name.upper()}", text)
    result = project.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: SIM_{name.upper()}='{text}' is not possible. It can be: {takes}."])


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="pytest reads native TOML from version 9 on")
def test_numbers_in_toml(project: Pytester) -> None:
    project.makepyprojecttoml('[tool.pytest]\nsim_max_runs = 6\nsim_horizon = 2.5\nsim_granularity = "turn"\n')
    result = project.runpytest()
    result.stdout.fnmatch_lines(["sim: granularity=turn max_runs=6 horizon=2.5"])


def test_help_and_marker(project: Pytester) -> None:
    result = project.runpytest("--help")
    result.stdout.fnmatch_lines(["*deterministic simulation (asgi-sim):", "*--sim-max-runs=N*", "*--sim-replay=BLOB*"])
    result = project.runpytest("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.sim(scenario, ?*settings): explore a scenario against servers*"])


def test_without_the_plugin(project: Pytester) -> None:
    project.makepyfile("def test_it(): pass")
    project.runpytest("-p", "no:sim").assert_outcomes(passed=1)
    result = project.runpytest("-p", "no:sim", "--sim-max-runs=1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_nothing_of_the_engine_is_imported_for_tests_of_other_things(project: Pytester) -> None:
    project.makepyfile(
        """
        import sys

        def test_it():
            ours = {"sim", "sim.pytest_plugin"}
            assert {m for m in sys.modules if m.split(".")[0] in ("sim", "models", "scenarios")} == ours
            assert not {"networkx", "matplotlib", "uvicorn", "hypercorn", "rich"} & {*sys.modules}
        """
    )
    project.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:benchmark").assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["models", "scenarios"])
def test_beside_a_package_of_the_users_of_the_same_name(project: Pytester, name: str) -> None:
    project.makepyfile(**{name: "class User: pass"})
    project.makepyfile(
        test_own=f"import {name}\n\ndef test_own(): assert {name}.User",
        test_sim="import pytest\n\n@pytest.mark.sim('hello', servers=['hypercorn'])\ndef test_it(sim_report): pass",
        test_toy=SHOW.format(marker="").replace("assert 0", "pass"),
    )

    def python_m_pytest(*files: str) -> str:
        command = [sys.executable, "-m", "pytest", "-q", *files]
        return subprocess.run(
            command, cwd=project.path, capture_output=True, text=True, check=False, timeout=120
        ).stdout

    text = python_m_pytest()
    # Their own tests run, and so do scenarios that need nothing of ours; ours says what is in its place.
    assert f"test_it cannot be collected: the name '{name}' means {project.path / name}.py here, which hides" in text
    assert "2 passed" in python_m_pytest("test_own.py", "test_toy.py")
