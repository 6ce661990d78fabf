"""Claims and scenarios: what they are made of, and how parameters are read."""

from __future__ import annotations

from typing import Any

import pytest

from sim import Invariant, Param, Scenario, Settings, UsageError, Violation, always, eventually, sometimes
from sim.check.invariants import PROGRESS
from sim.search.runner import Runner

from .toys import Toy, picking, toy_scenario


@pytest.mark.parametrize(
    ("make", "quantifier"), [(always, "always"), (sometimes, "sometimes"), (eventually, "eventually")]
)
def test_an_invariant_is_a_named_function_of_a_trace(make: Any, quantifier: str) -> None:
    @make("a-name", "A claim.", source="RFC 6455, 5.5.3")
    def claim(_trace: Any) -> Violation | None:
        return Violation("broken")

    assert isinstance(claim, Invariant)
    assert (claim.name, claim.claim, claim.quantifier, claim.source) == (
        "a-name",
        "A claim.",
        quantifier,
        "RFC 6455, 5.5.3",
    )
    assert claim.check(None) == Violation("broken", None)  # type: ignore[arg-type]


def test_progress_is_claimed_of_every_run_and_never_read_off_a_trace() -> None:
    assert (PROGRESS.name, PROGRESS.quantifier) == ("progress", "eventually")
    assert PROGRESS.check(None) is None  # type: ignore[arg-type]


PARAMS = {
    "word": Param("word", "hi", "a word"),
    "way": Param("way", "echo", "a way", ("echo", "deaf")),
    "times": Param("times", 3, "how often"),
    "wait": Param("wait", 0.5, "how long"),
    "loud": Param("loud", False, "whether to shout"),
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("word", "hello", "hello"),
        ("word", "", ""),
        ("way", "deaf", "deaf"),
        ("times", "7", 7),
        ("times", "-1", -1),
        ("wait", "2", 2.0),
        ("wait", "1e-3", 0.001),
        ("loud", "true", True),
        ("loud", "False", False),
    ],
)
def test_a_parameter_is_read_from_text(name: str, text: str, value: object) -> None:
    read = PARAMS[name].parse(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("way", "dumb", r"parameter way='dumb' is not allowed\. It can be: echo, deaf\."),
        ("times", "often", r"parameter times='often' is not of type int: how often\."),
        ("times", "1.5", "is not of type int"),
        ("wait", "long", r"parameter wait='long' is not of type float: how long\."),
        ("loud", "yes", r"parameter loud='yes' is not of type bool: whether to shout\."),
    ],
)
def test_a_parameter_that_cannot_be_read(name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PARAMS[name].parse(text)


def test_a_parameter_is_checked() -> None:
    assert PARAMS["wait"].check(2) == 2.0
    assert type(PARAMS["wait"].check(2)) is float
    for name, value in ("times", True), ("times", 1.0), ("wait", True), ("loud", 1), ("word", 7), ("word", None):
        with pytest.raises(UsageError, match=f"parameter {name}=.* is not of type"):
            PARAMS[name].check(value)
    with pytest.raises(UsageError, match="is not allowed"):
        PARAMS["way"].check("dumb")


def test_a_scenarios_arguments() -> None:
    scenario = toy_scenario(picking(), params=tuple(PARAMS.values()))
    defaults = {"word": "hi", "way": "echo", "times": 3, "wait": 0.5, "loud": False}
    assert scenario.arguments() == defaults
    assert scenario.arguments({"times": "5", "loud": True}) == {**defaults, "times": 5, "loud": True}
    with pytest.raises(
        UsageError,
        match=r"scenario 'toy' has no parameter 'volume'\. Its parameters are: loud, times, wait, way, word\.",
    ):
        scenario.arguments({"volume": 11})
    with pytest.raises(UsageError, match=r"Its parameters are: none\."):
        toy_scenario(picking()).arguments({"volume": 11})


def test_a_scenarios_summary_is_its_first_line() -> None:
    scenario = Scenario("s", "\n  One line.\n\nAnd more.\n", picking(), ())
    assert scenario.summary == "One line."
    assert Scenario("s", "", picking(), ()).summary == ""


def test_a_scenarios_settings_depend_on_its_parameters() -> None:
    def settings(*, times: int) -> Settings:
        return Settings(horizon=float(times), granularity="iteration")

    scenario = Scenario("s", "A story.", picking(), (), params=(PARAMS["times"],), settings=settings)
    runner = Runner(scenario, Toy(), params={"times": "9"})
    assert (runner.settings.horizon, runner.settings.granularity) == (9.0, "iteration")
    runner = Runner(scenario, Toy(), granularity="turn", horizon=2.0)
    assert (runner.settings.horizon, runner.settings.granularity) == (2.0, "turn")
    assert Scenario("s", "A story.", picking(), ()).settings(anything=1) == Settings()
