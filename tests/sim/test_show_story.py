"""Stories: short, in order, true to the trace, and safe to print whatever the trace holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.asgi import AppReturned, AsgiReceive, AsgiReceiveCancelled, AsgiReceiveFailed, AsgiSend
from models.websocket import WsPong, WsText
from sim import Trace, UsageError, Violation
from sim.show.reading import plain, read, span
from sim.show.story import MAX_LINES, WIDTH, tell
from sim.world.clock import Clock

from .showing import APP, CLIENT, ECHOED, NO_FLOW_ERROR, SERVER, Tape, check_golden, pong_run


def test_pong_story() -> None:
    check_golden("story_pong.txt", f"{tell(pong_run())}\n")


def test_text_before_the_pong() -> None:
    check_golden("story_text_first.txt", f"{tell(pong_run(first='text'))}\n")


def test_begins_with_the_first_segment_and_leaves_out_tcp() -> None:
    story = str(tell(pong_run()))
    assert "SYN" not in story
    assert "147 bytes" not in story
    assert story.splitlines()[0].endswith("client asks for a WebSocket")


def test_says_what_the_application_is_doing_when_a_message_arrives() -> None:
    assert f"Pong arrives while {APP} waits in receive()" in str(tell(pong_run()))


def test_a_message_that_arrives_at_once_is_told_in_one_breath() -> None:
    tape = Tape()
    accepted = tape.opened()
    tape.record(AsgiReceive, APP, cause=accepted)
    tape.deliver(tape.client(WsPong, b"", "Pong"))
    assert (
        tell(tape.run()).lines[-1].text
        == f"client gets HTTP 101, sends Pong; it arrives while {APP} waits in receive()"
    )


def test_receive_that_fails_at_once_is_told_with_its_call() -> None:
    tape = Tape()
    accepted = tape.opened()
    tape.deliver(tape.client(WsPong, b"", "Pong", accepted))
    called = tape.record(AsgiReceive, APP, cause=accepted)
    failed = tape.record(AsgiReceiveFailed, APP, "RuntimeError", "ASGI flow error", cause=called)
    story = str(tell(tape.run((NO_FLOW_ERROR, Violation("it broke", failed)))))
    assert f"arrives while {APP} is at work" in story
    assert f'✗ {APP} calls receive(), gets RuntimeError("ASGI flow error") out of receive()' in story


def test_marks_the_line_where_the_claim_breaks_and_ends_with_the_claim() -> None:
    story = tell(pong_run())
    (broken,) = [line for line in story.lines if line.broken]
    assert "gets RuntimeError" in broken.text
    assert broken.text.endswith("and dies of it")
    assert story.claim == NO_FLOW_ERROR.claim
    assert str(story).splitlines()[-2] == f"broken: {NO_FLOW_ERROR.claim} ({NO_FLOW_ERROR.name})"


def test_a_claim_about_the_end_is_told_to_the_end() -> None:
    story = tell(pong_run(), "texts-echoed")
    assert "end of the connection" in story.lines[-1].text
    assert story.message == "the text was never echoed"


def test_a_run_that_breaks_nothing_is_told_whole_and_without_a_claim() -> None:
    tape = Tape()
    tape.opened()
    tape.record(AppReturned, APP)
    story = tell(tape.run())
    assert story.invariant is None
    assert "broken" not in str(story)
    assert story.lines[-1].text == f"{APP} returns"


def test_unknown_invariant_lists_those_that_the_run_breaks() -> None:
    with pytest.raises(UsageError, match=r"'pong'. It breaks: pong-no-flow-error, texts-echoed"):
        tell(pong_run(), "pong")


def test_times_are_shown_where_they_change_and_count_from_the_beginning() -> None:
    tape = Tape()
    tape.clock.now = 7.0
    tape.opened()
    tape.clock.now = 7.25
    tape.record(AsgiReceive, APP)
    tape.record(AsgiReceiveCancelled, APP)
    tape.clock.now = 3_607.0
    tape.record(AppReturned, APP)
    assert [time for time, _, _ in tell(tape.run()).rows() if time] == ["0 ms", "250 ms", "60 min"]


def long_run(laps: int) -> Tape:
    tape = Tape()
    accepted = tape.opened()
    for lap in range(laps):
        tape.clock.now = float(lap)
        tape.deliver(tape.client(WsText, str(lap), f"text '{lap}'", accepted))
        tape.record(AsgiSend, APP, {"type": "websocket.send", "text": str(lap)})
    return tape


def test_a_long_story_keeps_its_beginning_and_what_led_to_the_end() -> None:
    tape = long_run(500)
    tape.record(AsgiReceive, APP)
    arrived = tape.deliver(tape.client(WsPong, b"", "Pong"))
    failed = tape.record(AsgiReceiveFailed, APP, "RuntimeError", "ASGI flow error", cause=arrived)
    story = tell(tape.run((NO_FLOW_ERROR, Violation("it broke", failed))))
    texts = [line.text for line in story.lines]
    assert len(texts) <= MAX_LINES + 3
    assert texts[0].endswith("asks for a WebSocket")
    assert any("more lines" in text for text in texts)
    assert any("Pong; it arrives" in text or "Pong arrives" in text for text in texts)
    assert story.lines[-1].broken


def test_what_follows_from_the_violation_is_told_but_no_new_story() -> None:
    tape = Tape()
    accepted = tape.opened()
    tape.record(AsgiReceive, APP)
    arrived = tape.deliver(tape.client(WsPong, b"", "Pong", accepted))
    failed = tape.record(AsgiReceiveFailed, APP, "RuntimeError", "ASGI flow error", cause=arrived)
    tape.record(WsText, CLIENT, "gets", "consequence", cause=arrived)
    tape.deliver(tape.client(WsText, "later", "text 'later'"))
    story = str(tell(tape.run((NO_FLOW_ERROR, Violation("it broke", failed)))))
    assert "consequence" in story
    assert "later' arrives" not in story


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_a_trace_holds_is_printed_on_lines_of_its_own(text: str, error: str) -> None:
    story = str(tell(pong_run(text=text, error=("Error", error))))
    plainest = str(tell(pong_run()))
    assert all(line.isprintable() for line in story.split("\n"))
    assert len(story.split("\n")) <= len(plainest.split("\n")) + 4
    assert all(len(line) <= WIDTH + len(" and dies of it") for line in story.split("\n"))


@given(st.text(), st.integers(1, 40))
def test_plain_text_is_printable_and_as_short_as_asked(text: str, width: int) -> None:
    assert plain(text).isprintable()
    assert len(plain(text, width)) <= width


def test_plain_text_shows_control_characters() -> None:
    assert plain("a\n\x1b[31mb\u202e") == "a\\n\\x1b[31mb\\u202e"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.05, "50 ms"),
        (0.0000015, "0.002 ms"),
        (1, "1 s"),
        (119.5, "119.5 s"),
        (120, "2 min"),
        (150, "2 min 30 s"),
        (7_200, "2 h"),
        (86_340, "23 h 59 min"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_an_empty_trace_has_an_empty_story() -> None:
    tape = Tape()
    assert str(tell(tape.run())) == ""
    assert read(Trace(Clock())).events == ()


def test_who_takes_part() -> None:
    reading = read(pong_run().trace)
    assert (reading.hosts, reading.processes, reading.applications) == ((CLIENT,), (SERVER,), (APP,))


def test_story_of_an_early_violation_before_any_segment() -> None:
    tape = Tape()
    event = tape.record(AsgiReceiveFailed, "lifespan", "ValueError", "too early")
    story = tell(tape.run((ECHOED, Violation("it broke", event))))
    assert 'lifespan gets ValueError("too early")' in str(story)
