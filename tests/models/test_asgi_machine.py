"""The ASGI tables are a machine: every state can be reached and left, and what they refuse is refused with the right side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.asgi.machine import (
    DELIVERED,
    HTTP_REQUEST,
    HTTP_RESPONSE,
    LIFESPAN,
    MACHINES,
    WEBSOCKET,
    Conversation,
    symbol,
)

TABLES = {
    "lifespan": (LIFESPAN, "waiting"),
    "request": (HTTP_REQUEST, "reading"),
    "response": (HTTP_RESPONSE, "idle"),
    "websocket": (WEBSOCKET, "waiting"),
}
FINAL = {"lifespan": {"failed", "stopped"}, "request": {"gone"}, "response": {"complete"}, "websocket": {"gone"}}


def states(table):
    return {state for state, _ in table} | set(table.values())


def message(name):
    """A message of that name in a table."""
    kind, _, suffix = name.partition("+")
    if suffix == "more":
        return {"type": kind, "more_trailers" if "trailers" in kind else "more_body": True}
    return {"type": kind, **({"trailers": True} if suffix else {})}


@pytest.mark.parametrize("name", TABLES)
def test_every_state_can_be_reached(name):
    table, start = TABLES[name]
    reached, fresh = {start}, {start}
    while fresh:
        fresh = {to for (state, _), to in table.items() if state in fresh} - reached
        reached |= fresh
    assert reached == states(table)


@pytest.mark.parametrize("name", TABLES)
def test_from_every_state_a_final_one_can_be_reached(name):
    table, _ = TABLES[name]
    ends = set(FINAL[name])
    while more := {state for (state, _), to in table.items() if to in ends} - ends:
        ends |= more
    assert ends == states(table)


@pytest.mark.parametrize("name", TABLES)
def test_no_state_is_dead_unless_it_is_final(name):
    table, _ = TABLES[name]
    stuck = states(table) - {state for state, _ in table}
    assert stuck <= FINAL[name]


def test_every_symbol_names_a_message_and_back():
    for table, _ in TABLES.values():
        for _, name in table:
            assert symbol(message(name)) == name


@pytest.mark.parametrize("kind", MACHINES)
def test_each_pair_of_state_and_message_does_what_the_table_says(kind):
    machine = MACHINES[kind]
    symbols = {name for _, name in (*machine.receiving, *machine.sending)}
    halves = [("_receiving", machine.receiving, "delivered", True), ("_sending", machine.sending, "sent", False)]
    for attribute, table, move, from_server in halves:
        for state in states(table):
            for name in symbols:
                conversation = Conversation(machine)
                setattr(conversation, attribute, state)
                if machine.shared:
                    conversation._receiving = conversation._sending = state
                before = conversation.state
                legal = getattr(conversation, move)(message(name))
                expected = table.get((state, name)) if (name.partition("+")[0] in DELIVERED) is from_server else None
                assert legal is (expected is not None)
                after = getattr(conversation, attribute)
                assert after == (expected or state)
                assert legal or conversation.state == before


def test_what_a_shared_table_allows_one_side_it_does_not_allow_the_other():
    conversation = Conversation(MACHINES["websocket"])
    assert not conversation.sent({"type": "websocket.connect"})
    assert conversation.delivered({"type": "websocket.connect"})
    assert not conversation.delivered({"type": "websocket.accept"})
    assert conversation.sent({"type": "websocket.accept"})
    assert not conversation.sent({"type": "websocket.receive", "text": ""})
    assert not conversation.delivered({"type": "websocket.send", "text": ""})
    assert conversation.state == "open"


def talk(kind, *steps):
    """Walk a conversation: `<` is what the server delivers, `>` what the application sends. Returns the first offence."""
    conversation = Conversation(MACHINES[kind])
    for step in steps:
        side, _, name = step.partition(" ")
        name = name if "." in name.partition("+")[0] and name.startswith(kind) else f"{kind}.{name}"
        legal = conversation.delivered(message(name)) if side == "<" else conversation.sent(message(name))
        if not legal:
            return ("server" if side == "<" else "application", conversation.state)
    return None


START, BODY, MORE = "> response.start", "> response.body", "> response.body+more"


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("lifespan", ["< startup", "> startup.complete", "< shutdown", "> shutdown.complete"]),
        ("lifespan", ["< startup", "> startup.failed"]),
        ("lifespan", ["< startup", "> startup.complete", "< shutdown", "> shutdown.failed"]),
        ("http", ["< request", START, BODY, "< disconnect"]),
        ("http", ["< request+more", START, "< request+more", MORE, "< request", MORE, BODY, "< disconnect"]),
        ("http", ["< request+more", "< disconnect", START, BODY, BODY, "< disconnect"]),
        ("http", [START, BODY, "< request", "< disconnect"]),
        ("http", ["> response.early_hint", "> response.early_hint", START, "> response.early_hint", BODY]),
        ("http", [START, "> response.pathsend"]),
        ("http", [START, "> response.zerocopysend+more", MORE, "> response.zerocopysend"]),
        ("http", ["> response.start+trailers", MORE, BODY, "> response.trailers+more", "> response.trailers"]),
        ("http", ["> response.debug", START, "> response.push", MORE, "> response.push", BODY]),
        ("websocket", ["< connect", "> accept", "< receive", "> send", "< disconnect", "< disconnect"]),
        ("websocket", ["< connect", "> accept", "> close", "< disconnect"]),
        ("websocket", ["< connect", "> close", "< disconnect"]),
        ("websocket", ["< connect", "< disconnect", "> accept", "> send", "> close"]),
        ("websocket", ["> accept", "> send", "< connect", "< receive", "< disconnect"]),
        ("websocket", ["> close", "< connect", "< disconnect"]),
        ("websocket", ["< connect", "> http.response.start", "> http.response.body+more", "> http.response.body"]),
        ("websocket", ["< connect", "> http.response.start", "< disconnect", "> http.response.body"]),
    ],
)
def test_typical_conversations_are_legal(kind, steps):
    assert talk(kind, *steps) is None


@pytest.mark.parametrize(
    ("kind", "steps", "side", "state"),
    [
        ("lifespan", ["< shutdown"], "server", "waiting"),
        ("lifespan", ["> startup.complete"], "application", "waiting"),
        ("lifespan", ["< startup", "> startup.complete", "> startup.complete"], "application", "started"),
        ("lifespan", ["< startup", "> startup.failed", "< shutdown"], "server", "failed"),
        ("http", ["< request", "< request"], "server", "read/idle"),
        ("http", ["< disconnect", "< request"], "server", "gone/idle"),
        ("http", [BODY], "application", "reading/idle"),
        ("http", [START, START], "application", "reading/started"),
        ("http", [START, BODY, BODY], "application", "reading/complete"),
        ("http", [START, MORE, "> response.pathsend"], "application", "reading/sending"),
        ("http", [START, MORE, "> response.early_hint"], "application", "reading/sending"),
        ("http", [START, BODY, "> response.trailers"], "application", "reading/complete"),
        ("http", ["> response.start+trailers", BODY, BODY], "application", "reading/trailers due"),
        ("http", ["< disconnect", "> response.nonsense"], "application", "gone/idle"),
        ("websocket", ["< receive"], "server", "waiting"),
        ("websocket", ["< connect", "< connect"], "server", "connecting"),
        ("websocket", ["< connect", "< receive"], "server", "connecting"),
        ("websocket", ["< connect", "> send"], "application", "connecting"),
        ("websocket", ["< connect", "> accept", "> accept"], "application", "open"),
        ("websocket", ["< connect", "> accept", "> close", "> close"], "application", "closed"),
        ("websocket", ["< connect", "> accept", "> close", "> send"], "application", "closed"),
        ("websocket", ["< connect", "> accept", "> close", "< receive"], "server", "closed"),
        ("websocket", ["< connect", "> accept", "< disconnect", "< receive"], "server", "gone"),
        ("websocket", ["> http.response.start"], "application", "waiting"),
        ("websocket", ["< connect", "> http.response.start", "> accept"], "application", "denying"),
    ],
)
def test_the_offender_is_named(kind, steps, side, state):
    assert talk(kind, *steps[:-1]) is None
    assert talk(kind, *steps) == (side, state)


@st.composite
def sequences(draw):
    kind = draw(st.sampled_from(sorted(MACHINES)))
    machine = MACHINES[kind]
    symbols = sorted({name for _, name in (*machine.receiving, *machine.sending)} | {f"{kind}.nonsense"})
    return kind, draw(st.lists(st.tuples(st.sampled_from(symbols), st.booleans()), max_size=12))


@given(sequences())
def test_a_refused_message_changes_nothing_and_no_message_gets_lost(sequence):
    kind, moves = sequence
    machine = MACHINES[kind]
    conversation, legal = Conversation(machine), Conversation(machine)
    for name, from_server in moves:
        before = conversation.state
        accepted = (conversation.delivered if from_server else conversation.sent)(message(name))
        assert accepted or conversation.state == before
        if accepted:
            assert (legal.delivered if from_server else legal.sent)(message(name))
        assert conversation.state == legal.state
        half = conversation.state.split("/")
        assert half[0] in states(machine.receiving)
        assert half[-1] in states(machine.sending)


@given(sequences())
def test_once_the_client_is_gone_nothing_but_its_absence_is_delivered(sequence):
    kind, moves = sequence
    conversation = Conversation(MACHINES[kind])
    for name, from_server in moves:
        gone = conversation.state.startswith("gone")
        accepted = (conversation.delivered if from_server else conversation.sent)(message(name))
        if gone and from_server and accepted:
            assert name == f"{kind}.disconnect"
        if gone:
            assert conversation.state.startswith("gone")
