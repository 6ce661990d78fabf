"""Schedules in print: what goes in comes out; what is damaged is refused with a sentence; versions are part of it."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import Param, Schedule, Settings, UsageError, replay
from sim.search.schedule import MARK, python_version

from .toys import Noted, Toy, noted, picking, search, toy_scenario

if TYPE_CHECKING:
    from sim import World

NAMES = st.text(min_size=1)
VALUES = st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False))
SCHEDULES = st.builds(
    Schedule,
    NAMES,
    NAMES,
    st.lists(st.integers(0, 300), max_size=60).map(tuple),
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.sampled_from(["turn", "iteration"]),
    st.dictionaries(NAMES, NAMES, max_size=4),
    st.none() | st.floats(0.1, float("inf")),
)
USUAL = Schedule(
    "unsolicited_pong",
    "uvicorn[httptools,websockets-sansio]",
    (0, 0, 1, 0, 2, 0, 0, 1, 3),
    {"receiving": "polling"},
    "iteration",
    {"python": "3.11", "uvicorn": "0.54.0", "httptools": "0.9.0", "websockets": "15.0.1"},
)


@given(SCHEDULES)
def test_round_trip(schedule: Schedule) -> None:
    blob = schedule.to_blob()
    assert Schedule.from_blob(blob) == schedule
    assert Schedule.from_blob(blob).to_blob() == blob
    assert re.fullmatch(r"sim1\.[A-Za-z0-9_-]+", blob)


def test_zeros_at_the_end_are_no_part_of_it() -> None:
    assert Schedule("s", "x", (0, 1, 0, 0)) == Schedule("s", "x", (0, 1))
    assert Schedule("s", "x", (0, 0)).picks == ()
    assert Schedule("s", "x", (0, 2, 0, 1)).deviations == 2


def test_a_blob_is_short_enough_for_a_line_of_shell() -> None:
    assert len(USUAL.to_blob()) < 260
    assert len(attrs.evolve(USUAL, picks=(0,) * 199 + (1,)).to_blob()) < 290
    worst = tuple(i * i * 7 % 11 % 4 for i in range(200))
    assert len(attrs.evolve(USUAL, picks=worst).to_blob()) < 420


def test_a_blob_survives_line_breaks_and_spaces() -> None:
    blob = USUAL.to_blob()
    assert Schedule.from_blob(f"  {blob[:40]}\n   {blob[40:]}\n") == USUAL


def test_corrupt_at_any_place() -> None:
    blob = USUAL.to_blob()
    for position, there in enumerate(blob):
        for other in {"A", "z", "9", "-", "_", "*", "é", "."} - {there}:
            with pytest.raises(UsageError, match=r"is damaged|is not a schedule|is a schedule of format"):
                Schedule.from_blob(blob[:position] + other + blob[position + 1 :])


def test_cut_off_at_any_length() -> None:
    blob = USUAL.to_blob()
    for length in range(len(blob)):
        with pytest.raises(UsageError, match=r"is damaged|is not a schedule") as error:
            Schedule.from_blob(blob[:length])
        assert error.value.exit_code == 2


def test_grown_at_its_end() -> None:
    for tail in "A", "AA", "AAAA", "=", "==":
        with pytest.raises(UsageError, match="is damaged"):
            Schedule.from_blob(USUAL.to_blob() + tail)


def test_of_another_format() -> None:
    with pytest.raises(UsageError, match=r"is a schedule of format 'sim2', and this version of asgi-sim reads 'sim1'"):
        Schedule.from_blob("sim2." + USUAL.to_blob()[5:])


@pytest.mark.parametrize("text", ["", "hello", "sim", "simulate", "sim1", "1.AXic", "sim.x", "SIM1.AAAA"])
def test_not_a_schedule(text: str) -> None:
    with pytest.raises(UsageError, match=r"schedules begin with 'sim1\.'\. Copy the whole replay line"):
        Schedule.from_blob(text)


@given(st.text() | st.text().map(lambda text: MARK + text))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        Schedule.from_blob(text)


def pack(data: bytes) -> str:
    checked = zlib.crc32(data).to_bytes(4, "big") + data
    return MARK + base64.urlsafe_b64encode(checked).decode().rstrip("=")


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {},
        "text",
        ["s", "x", "turn", {}, {}, None],
        ["s", "x", "turn", {}, {}, None, [-1]],
        ["s", "x", "turn", {}, {}, None, [1.5]],
        ["s", "x", "turn", {}, {}, None, [True]],
        ["s", "x", "turn", {}, {}, None, 7],
        ["s", "x", "turn", {}, {}, "soon", []],
        ["s", "x", "turn", {}, {"python": 3}, None, []],
        ["s", "x", "turn", [], {}, None, []],
        ["s", "x", "turn", {}, [], None, []],
        [1, "x", "turn", {}, {}, None, []],
    ],
)
def test_a_whole_blob_that_holds_no_schedule(record: Any) -> None:
    with pytest.raises(UsageError, match="what it holds is no schedule"):
        Schedule.from_blob(pack(zlib.compress(json.dumps(record).encode())))


def test_a_blob_made_to_fill_the_memory() -> None:
    bomb = zlib.compress(b'["' + b"x" * (64 << 20) + b'"]', 9)
    with pytest.raises(UsageError, match="what it holds is no schedule"):
        Schedule.from_blob(pack(bomb))
    with pytest.raises(UsageError, match="what it holds is no schedule"):
        Schedule.from_blob(pack(zlib.compress(b"[" * 500_000, 9)))
    with pytest.raises(UsageError, match="what it holds is no schedule"):
        Schedule.from_blob(pack(b"no zlib"))


def play_params(world: World, _subject: Any, *, word: str, times: int, loud: bool) -> None:
    world.trace.record(Noted, "toy", (word, times, loud, world.settings.granularity, world.settings.horizon))
    world.choose("ab", "a or b")


PARAMS = (Param("word", "hi", "a word"), Param("times", 1, "how often"), Param("loud", False, "whether to shout"))


def test_parameters_granularity_and_horizon_survive() -> None:
    scenario = toy_scenario(play_params, settings=Settings(settle=0.0, horizon=50.0), params=PARAMS)
    given = {"word": "hey", "loud": True}
    report = search(
        play_params,
        params=given,
        granularity="iteration",
        horizon=7.5,
        scenario={"settings": Settings(settle=0.0, horizon=50.0), "params": PARAMS, "observe": lambda _trace: "run"},
    )
    schedule = report.observed[0].schedule
    assert (schedule.params, schedule.granularity, schedule.horizon) == (given, "iteration", 7.5)
    _, run = replay(schedule.to_blob(), scenario=scenario, server=Toy())
    assert noted(run.trace) == [("hey", 1, True, "iteration", 7.5)]


def test_what_was_left_to_the_scenario_is_left_to_it() -> None:
    report = search(play_params, scenario={"params": PARAMS, "observe": lambda _trace: "run"})
    schedule = report.observed[0].schedule
    assert (schedule.params, schedule.granularity, schedule.horizon) == ({}, "turn", None)
    assert schedule.versions == {"python": python_version(), "toy": "1"}


def test_a_replay_under_other_versions_is_refused() -> None:
    scenario = toy_scenario(picking(2))
    schedule = Schedule("toy", "toy==1", (1,), versions={"python": "2.7", "toy": "1", "gone": "4"})
    with pytest.raises(UsageError) as error:
        replay(schedule, scenario=scenario, server=Toy())
    assert str(error.value) == (
        f"the schedule was recorded with gone 4 (here: none), python 2.7 (here: {python_version()}). Install those "
        "versions, search again with these, or try all the same: asgi-sim replay --any-version."
    )
    _, run = replay(schedule, scenario=scenario, server=Toy(), any_version=True)
    assert run.picks == (1,)


def test_a_replay_with_another_scenario_or_server_is_refused() -> None:
    schedule = Schedule("toy", "toy==1", (1,))
    with pytest.raises(UsageError, match="the schedule is of the scenario 'toy', and this is 'other'"):
        replay(schedule, scenario=toy_scenario(picking(2), name="other"), server=Toy())
    with pytest.raises(UsageError, match="the schedule is of the server 'toy==1', and this is 'toy==2'"):
        replay(schedule, scenario=toy_scenario(picking(2)), server=Toy("toy==2"))
    with pytest.raises(UsageError, match="there is no scenario 'toy'"):
        replay(schedule)
    with pytest.raises(UsageError, match="there is no server 'nobody'"):
        replay(Schedule("toy", "nobody", ()), scenario=toy_scenario(picking(2)))


def test_a_replay_with_impossible_settings_is_refused() -> None:
    scenario = toy_scenario(picking(2))
    with pytest.raises(UsageError, match="granularity 'step' does not exist"):
        replay(Schedule("toy", "toy==1", (), granularity="step"), scenario=scenario, server=Toy())
    with pytest.raises(UsageError, match="has no parameter 'volume'"):
        replay(Schedule("toy", "toy==1", (), {"volume": 11}), scenario=scenario, server=Toy())


def test_a_replay_is_the_same_run_byte_for_byte() -> None:
    scenario = toy_scenario(picking(3, 3), observe=lambda trace: str(noted(trace)))
    report = search(picking(3, 3), scenario={"observe": scenario.observe})
    for observed in report.observed:
        runs = [replay(observed.schedule.to_blob(), scenario=scenario, server=Toy())[1] for _ in range(2)]
        assert runs[0].trace.to_jsonl() == runs[1].trace.to_jsonl() != ""
        assert runs[0].observed == observed.name
