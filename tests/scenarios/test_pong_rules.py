"""The Pong's invariants on traces made by hand: what they see, what they excuse, and what it costs to look."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.asgi import (
    AppRaised,
    AppReturned,
    AsgiReceive,
    AsgiReceiveCancelled,
    AsgiReceived,
    AsgiReceiveFailed,
    AsgiSend,
)
from models.websocket import WsBinary, WsClose, WsHandshake, WsPong, WsText
from scenarios import pong_rules as rules
from sim import Trace
from sim.world.clock import Clock
from sim.world.events import LoggedError, LoggedWarning, TcpDeliver, TcpSend

FLOW = ("RuntimeError", "ASGI flow error")


class Tape:
    """Writes a trace by hand."""

    def __init__(self):
        self.trace = Trace(Clock())
        self._in_flight = []

    def record(self, kind, actor, *fields, cause=None):
        self.trace.cause = cause
        return self.trace.record(kind, actor, *fields)

    def sends(self, kind, payload=b"", *, label="a segment", arrives=True):
        """The client sends a frame; unless it is to wait, it arrives at once."""
        frame = self.record(kind, "client", "sends", payload)
        self._segment(label, cause=frame.seq)
        return self.arrives() if arrives else self

    def _segment(self, label, cause=None):
        sent = self.record(TcpSend, "client", "client-1", "server", label, b"", cause=cause)
        self._in_flight.append((sent.seq, label))

    def arrives(self):
        """The oldest segment in flight reaches the server."""
        cause, label = self._in_flight.pop(0)
        self.record(TcpDeliver, "server", "server-1", "client", label, 1, cause=cause)
        return self

    def opens(self, answer=101):
        self.sends(WsHandshake, "/")
        self.record(WsHandshake, "client", "gets", answer)
        return self

    def closes(self, code=1000):
        return self.sends(WsClose, code, label=f"Close {code}")

    def leaves(self, label="FIN"):
        self._segment(label)
        return self.arrives()

    def gets(self, kind, payload):
        self.record(kind, "client", "gets", payload)
        return self

    def calls(self):
        self.record(AsgiReceive, "websocket 1")
        return self

    def gives(self, **message):
        self.record(AsgiReceived, "websocket 1", {"type": "websocket.receive", **message})
        return self

    def fails(self, error=FLOW):
        self.record(AsgiReceiveFailed, "websocket 1", *error)
        return self

    def cancels(self):
        self.record(AsgiReceiveCancelled, "websocket 1")
        return self

    def says(self, kind, **fields):
        self.record(AsgiSend, "websocket 1", {"type": f"websocket.{kind}", **fields})
        return self

    def ends(self, kind=AppReturned):
        self.record(kind, "websocket 1", *(FLOW if kind is AppRaised else ()))
        return self

    def logs(self, message="oh", exception=None, kind=LoggedWarning):
        self.record(kind, "server", "WARNING", "server", message, exception)
        return self


def broken(tape):
    """The names of the invariants that the trace breaks."""
    invariants = (
        rules.handshake_completes,
        rules.pong_never_a_flow_error,
        rules.pong_never_seen,
        rules.pong_logs_nothing,
        rules.texts_echoed,
        rules.cancelled_receive_loses_nothing,
        rules.close_handshake_completes,
    )
    return {i.name for i in invariants if i.check(tape.trace) is not None}


def message_of(invariant, tape):
    return invariant.check(tape.trace).message


def test_a_sound_conversation_breaks_nothing():
    tape = Tape().opens().calls().sends(WsPong).sends(WsText, "a").gives(text="a").gets(WsText, "a")
    tape.calls().closes().gives(type="websocket.disconnect").gets(WsClose, 1000).ends()
    assert broken(tape) == set()
    assert rules.observe(tape.trace) == "the Pong is ignored"


def test_an_empty_trace_breaks_nothing():
    assert broken(Tape()) == set()
    assert rules.observe(Tape().trace) == "the Pong does not arrive"


# The handshake.


@pytest.mark.parametrize(
    ("answer", "found"), [(101, set()), (403, {"handshake-completes"}), (500, {"handshake-completes"})]
)
def test_the_handshake(answer, found):
    assert broken(Tape().opens(answer)) == found


def test_a_handshake_without_an_answer():
    assert broken(Tape().sends(WsHandshake, "/")) == {"handshake-completes"}


# Flow errors.


def test_a_flow_error_behind_a_pong():
    assert broken(Tape().calls().sends(WsPong).fails()) == {"pong-no-flow-error"}


@pytest.mark.parametrize(
    "tape",
    [
        Tape().calls().fails().sends(WsPong),
        Tape().calls().sends(WsPong, arrives=False).fails().arrives(),
        Tape().calls().sends(WsPong).fails(("RuntimeError", "another")),
        Tape().calls().sends(WsText, "a").gives(text="a").gets(WsText, "a").calls().fails(),
    ],
    ids=["before it was sent", "before it arrived", "another error", "no Pong at all"],
)
def test_an_error_that_is_not_a_pongs(tape):
    assert "pong-no-flow-error" not in broken(tape)


def over(how):
    """A conversation in which a Pong was ignored, and which has ended one way or another."""
    tape = Tape().opens().calls().sends(WsPong)
    return {
        "close": lambda: tape.closes(),
        "fin": lambda: tape.leaves("FIN"),
        "rst": lambda: tape.leaves("RST"),
        "own close": lambda: tape.says("close"),
        "nothing": lambda: tape,
    }[how]()


@pytest.mark.parametrize("how", ["close", "fin", "rst", "own close"])
def test_a_cancelled_receive_behind_the_end_excuses_a_flow_error_and_only_behind_itself(how):
    assert "pong-no-flow-error" not in broken(over(how).cancels().calls().fails())
    assert "pong-no-flow-error" in broken(over(how).fails())
    assert "pong-no-flow-error" in broken(over(how).fails().calls().cancels())
    assert "pong-no-flow-error" in broken(over(how).gives(type="websocket.disconnect").calls().fails())


def test_a_cancelled_receive_before_the_end_excuses_nothing():
    tape = over("nothing").cancels().calls().closes().fails()
    assert "pong-no-flow-error" in broken(tape)


# Logs.


@pytest.mark.parametrize("kind", [LoggedWarning, LoggedError])
def test_what_is_logged_behind_a_pong_and_before_the_end_counts(kind):
    assert "pong-unlogged" in broken(over("nothing").logs(kind=kind))
    assert "pong-unlogged" not in broken(Tape().calls().logs(kind=kind).sends(WsPong))


@pytest.mark.parametrize(
    ("message", "exception", "counts"),
    [
        ("oh", None, False),
        ("Unsupported message Pong([])", None, True),
        ("it died", "RuntimeError: ASGI flow error", True),
    ],
)
def test_behind_the_end_only_what_is_about_pongs_counts(message, exception, counts):
    assert ("pong-unlogged" in broken(over("close").logs(message, exception))) is counts


def test_a_cancelled_receive_behind_the_end_excuses_the_log_of_its_flow_error():
    assert "pong-unlogged" not in broken(
        over("close").cancels().calls().fails().logs("", "RuntimeError: ASGI flow error")
    )


# Pongs seen.


@pytest.mark.parametrize("message", [{"text": ""}, {"bytes": b""}, {"text": "b"}, {"bytes": b"a"}])
def test_the_application_receives_only_what_was_sent_as_a_message(message):
    assert "pong-unseen" in broken(Tape().calls().sends(WsPong).sends(WsText, "a").gives(**message))


@pytest.mark.parametrize(("kind", "message"), [(WsText, {"text": "a"}), (WsBinary, {"bytes": b"a", "text": None})])
def test_what_was_sent_may_be_received(kind, message):
    payload = message.get("bytes") or message["text"]
    assert "pong-unseen" not in broken(Tape().calls().sends(WsPong).sends(kind, payload).gives(**message))


# Texts.


def conversation(received, echoed, sent="abc"):
    """The client sends messages at once; the application receives these and the client gets those."""
    tape = Tape().opens()
    for letter in sent:
        tape.sends(WsText, letter)
    for letter in received:
        tape.calls().gives(text=letter)
    for letter in echoed:
        tape.gets(WsText, letter)
    return tape.calls()


@pytest.mark.parametrize(
    ("received", "echoed", "message"),
    [
        ("ab", "abc", "the application received 'c' never"),
        ("abcb", "abc", "the application received 'b' twice"),
        ("abc", "ac", "the client got the echo of 'b' never"),
        ("abc", "abca", "the client got the echo of 'a' twice"),
        ("acb", "abc", "the texts ['a', 'b', 'c'] came in another order: received ['a', 'c', 'b']"),
        ("abc", "bac", "the texts ['a', 'b', 'c'] came in another order: echoed ['b', 'a', 'c']"),
    ],
)
def test_a_text_that_is_lost_repeated_or_out_of_order(received, echoed, message):
    assert message_of(rules.texts_echoed, conversation(received, echoed)) == message
    assert broken(conversation(received, echoed)) == {"texts-echoed", "cancelled-receive-loses-nothing"}


def test_what_the_server_says_of_its_own_accord_is_no_echo():
    assert broken(conversation("abc", "xabxc")) == set()


@given(st.permutations("abcd"), st.permutations("abcd"))
def test_only_the_order_in_which_they_were_sent_is_right(received, echoed):
    assert (broken(conversation(received, echoed, "abcd")) == set()) is (received == echoed == list("abcd"))


def test_a_text_that_the_application_can_no_more_receive_is_not_due():
    """It returned, or it received for the last time, before the text came."""
    assert (
        broken(Tape().opens().calls().sends(WsText, "a").gives(text="a").gets(WsText, "a").sends(WsText, "b")) == set()
    )
    assert broken(Tape().opens().sends(WsText, "a")) == set()
    assert broken(Tape().opens().calls().sends(WsText, "a", arrives=False)) == set()


@pytest.mark.parametrize("how", ["gives", "fails", "pends"])
def test_a_text_that_it_still_can_receive_is_due(how):
    """A later receive() that ends otherwise than by cancellation, or waits, could have had it."""
    tape = Tape().opens().sends(WsText, "a").calls()
    if how == "gives":
        tape.gives(type="websocket.disconnect")
    elif how == "fails":
        tape.fails()
    assert broken(tape) == {"texts-echoed", "cancelled-receive-loses-nothing"}


def test_a_text_that_comes_while_a_receive_is_pending_that_is_cancelled_is_contested():
    lost = Tape().opens().calls().sends(WsText, "a").cancels().calls()
    assert broken(lost) == {"cancelled-receive-loses-nothing"}
    assert rules.observe(lost.sends(WsPong).trace).endswith("lost with the receive() that the application cancelled")


@pytest.mark.parametrize("fate", ["kept", "twice"])
def test_a_contested_text_may_come_but_not_twice(fate):
    tape = Tape().opens().calls().sends(WsText, "a").cancels().calls().gives(text="a").gets(WsText, "a")
    if fate == "twice":
        tape.calls().gives(text="a")
    assert broken(tape.calls()) == (set() if fate == "kept" else {"texts-echoed", "cancelled-receive-loses-nothing"})


def test_a_cancellation_before_or_behind_a_text_contests_nothing():
    before = Tape().opens().calls().cancels().sends(WsText, "a").calls()
    assert "texts-echoed" in broken(before)
    behind = Tape().opens().sends(WsText, "a").calls().cancels().calls()
    assert "texts-echoed" in broken(behind)


# The closing handshake.


@pytest.mark.parametrize(
    ("answer", "found"),
    [(1000, set()), (1005, {"close-handshake"}), (1001, {"close-handshake"}), (None, {"close-handshake"})],
)
def test_the_close_that_the_client_began(answer, found):
    tape = Tape().opens().closes()
    if answer is not None:
        tape.gets(WsClose, answer)
    assert broken(tape) == found


def test_the_close_that_the_server_began_is_not_claimed():
    assert broken(Tape().opens().gets(WsClose, 1005).closes(1005)) == set()


# What a Pong came to.


@pytest.mark.parametrize(
    ("tape", "name"),
    [
        (Tape().calls().sends(WsPong).fails(), "error at once: a receive() was pending"),
        (Tape().sends(WsPong).calls().fails(), "error at the next receive()"),
        (
            Tape().sends(WsPong).sends(WsText, "a").calls().fails().calls().gives(text="a").gets(WsText, "a"),
            "error at the next receive(), ahead of the data behind the Pong",
        ),
        (
            Tape().calls().sends(WsPong).logs("Unsupported message Pong([])").cancels().calls(),
            "warning alone: the receive() that read the Pong was cancelled",
        ),
        (Tape().sends(WsPong).ends(), "nothing at all: the application never receives again"),
        (Tape().sends(WsPong).calls(), "the Pong is ignored"),
        (Tape().calls().sends(WsPong, arrives=False), "the Pong does not arrive"),
    ],
)
def test_what_a_pong_came_to_has_a_name(tape, name):
    assert rules.observe(tape.trace) == name


def test_a_message_that_is_lost_because_the_application_died_is_not_blamed_on_a_cancellation():
    tape = Tape().opens().calls().sends(WsText, "a").cancels().calls().sends(WsPong).fails().ends(AppRaised)
    assert rules.observe(tape.trace) == "error at once: a receive() was pending"


# What it costs.


class Counting(Trace):
    """A trace that counts how many events were looked at."""

    __slots__ = ("looked",)

    def __iter__(self):
        for event in self.events:
            self.looked += 1
            yield event

    def of(self, *kinds):
        return (event for event in self if isinstance(event, kinds))


def test_the_invariants_look_at_each_event_of_a_long_trace_a_few_times_only():
    tape = Tape()
    tape.trace = Counting(Clock())
    tape.trace.looked = 0
    tape.opens()
    for number in itertools.count():
        tape.sends(WsPong).calls().sends(WsText, f"{number}").gives(text=f"{number}").gets(WsText, f"{number}").logs()
        if len(tape.trace.events) > 20_000:
            break
    assert broken(tape) == {"pong-unlogged"}
    rules.observe(tape.trace)
    assert tape.trace.looked < 30 * len(tape.trace.events)
