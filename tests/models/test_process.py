"""A simulated run on a real server process: the parts by themselves, and real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from wsproto import events as ws
from wsproto.connection import Connection, ConnectionType

from models.application import Application
from models.asgi import AsgiReceive, AsgiReceiveCancelled, AsgiReceived, AsgiReceiveFailed, AsgiSend, AsgiSent
from models.environments import make as environments
from models.environments.reason import reason
from models.http1 import HttpCutOff, HttpRequest, HttpResponse
from models.process import Confirmation, confirm, servers
from models.process.client import Decoder
from models.process.inside import _Inside
from models.process.link import KINDS, Lines, SharedProgress, event_line, fields_of
from models.process.plan import AppStep, OuterStep, Plan, Progress
from models.process.reality import first_disorder
from models.websocket import WsBinary, WsClose, WsFragment, WsGarbage, WsHandshake, WsPing, WsPong, WsText
from sim.check.invariants import Violation, always
from sim.errors import StartupError, UsageError
from sim.world.clock import Clock
from sim.world.events import LoggedError, LoggedWarning, TcpClosed, TcpDeliver, TcpSend
from sim.world.trace import Trace

from .process_stories import (
    FLOW_ERROR,
    Story,
    answered,
    cancelled,
    deaf,
    echoed,
    error_at_once,
    error_later,
    no_flow_error,
    no_log,
    no_text_lost,
    only_a_warning,
    two_answers,
)

REPEATS = int(os.environ.get("ASGI_SIM_TEST_REPEATS", "2"))
"""How often each of Granian's situations is replayed."""
ECHO = Application("process_apps:echo")
BUSY = Application("process_apps:busy", {"seconds": 0.2})
POLLING = Application("process_apps:polling", {"seconds": 0.15})
DEAF = Application("process_apps:deaf")


# The plan.


def words(plan):
    return [f"{s.verb} {s.what}" if isinstance(s, OuterStep) else s.kind for s in plan.steps]


def test_a_plan_is_the_trace_without_what_nobody_can_force():
    story = Story().opens()
    story.record(TcpSend, "server", "connection 1", "client", "129 bytes", b"HTTP/1.1 101")
    story.record(AsgiReceive, "lifespan")
    story.says(ws.Ping(b""))
    plan = Plan.of(story.trace)
    assert words(plan) == [
        "write SYN",
        "deliver SYN",
        "write GET upgrade",
        "deliver GET upgrade",
        "app.called",
        "asgi.receive",
        "asgi.received",
        "asgi.send",
        "asgi.sent",
        "hear gets HTTP 101",
        "write Ping b''",
    ]
    assert [s.number for s in plan.steps] == list(range(11))
    assert plan.server == "server"
    assert plan.steps[3].written == 2
    assert plan.steps[3].data.startswith(b"GET / HTTP/1.1\r\n")


def test_a_delivery_is_held_for_the_cancellation_behind_it():
    plan = Plan.of(only_a_warning())
    receive, _, pong, cancellation = plan.steps[10:14]
    assert (receive.kind, pong.verb, cancellation.kind) == ("asgi.receive", "deliver", "asgi.receive_cancelled")
    assert plan.held == {pong.number: cancellation.number}
    assert plan.holding == {cancellation.number: pong.number}
    assert plan.ends[receive.number] == cancellation.number


def test_nothing_is_held_for_a_receive_that_ends_otherwise_or_long_after_the_delivery():
    assert not Plan.of(error_later()).held
    story = Story().opens()
    story.app(AsgiReceive)
    story.delivers(ws.Ping(b""))
    story.app(AsgiSend, {"type": "websocket.send", "text": ""})
    story.app(AsgiReceiveCancelled)
    assert not Plan.of(story.trace).held


def test_the_server_process_needs_the_plan_without_its_bytes():
    plan = Plan.of(only_a_warning())
    copy = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert (copy.held, copy.holding, copy.ends) == (plan.held, plan.holding, plan.ends)
    assert [s for s in copy.steps if isinstance(s, AppStep)] == [s for s in plan.steps if isinstance(s, AppStep)]
    assert [s.number for s in copy.outer] == [s.number for s in plan.outer]
    assert not any(s.data for s in copy.outer)


def test_a_step_may_happen_when_all_before_it_have():
    plan = Plan.of(error_at_once())
    progress = Progress(plan)
    assert progress.may(0)
    assert not progress.may(1)
    progress.done(1)
    assert progress.next == 0
    progress.done(0)
    assert progress.next == 2
    assert progress.happened("websocket 1", "asgi.receive").number == 5
    assert progress.happened("websocket 1", "asgi.receive").number == 10
    assert progress.happened("websocket 1", "asgi.receive") is None


def test_order_is_judged_among_the_outer_steps_and_those_of_one_actor():
    steps = [
        OuterStep(0, 0.0, "write", "client"),
        AppStep(1, 0.0, "websocket 1", "asgi.receive", 0),
        AppStep(2, 0.0, "websocket 2", "asgi.receive", 0),
        OuterStep(3, 0.0, "deliver", "client"),
        AppStep(4, 0.0, "websocket 1", "asgi.received", 0),
    ]
    plan = Plan(steps)
    assert first_disorder(plan, [(float(n), n) for n in range(5)]) is None
    assert first_disorder(plan, [(0.0, 0), (1.0, 2), (2.0, 1), (3.0, 3), (4.0, 4)]) is None
    assert "out of order: websocket 1" in first_disorder(plan, [(0.0, 0), (1.0, 3), (2.0, 1)])
    assert "out of order: client" in first_disorder(plan, [(0.0, 0), (1.0, 4), (2.0, 3)])


# The link.


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.receive", "bytes": b"\x00\xff", "text": None},
        {"type": "http.response.start", "headers": [(b"a", b"b")], "status": 200, "trailers": False},
        {"type": "x", "$bytes": {"deep": [1.5, (), {}]}},
    ],
)
def test_messages_survive_the_link(message):
    record = json.loads(event_line(AsgiSend, "websocket 1", (message,)))
    assert KINDS[record["event"]] is AsgiSend
    assert fields_of(record) == [message]


def test_lines_are_cut_wherever_the_bytes_are():
    lines = Lines()
    assert [list(lines.feed(part)) for part in (b"a\nb", b"", b"c\n\nd")] == [[b"a"], [], [b"bc", b""]]
    assert list(lines.finish()) == [b"d"]


def test_progress_is_shared(tmp_path):
    ours, theirs = SharedProgress(tmp_path / "p", create=True), SharedProgress(tmp_path / "p")
    assert (theirs.outer, theirs.free) == (0, False)
    ours.outer += 70_000
    ours.set_free()
    assert (theirs.outer, theirs.free) == (70_000, True)
    ours.close()
    theirs.close()


# Inside the server process.


class Within:
    """The inside of a server process, without one: a server of queues, and the coordinator's part by hand."""

    def __init__(self, directory, plan):
        self.directory = directory
        os.mkfifo(directory / "events")
        self.events = os.open(directory / "events", os.O_RDWR | os.O_NONBLOCK)
        self.shared = SharedProgress(directory / "progress", create=True)
        self.inside = _Inside(Plan.from_json(plan.to_json()), directory)

    def told(self):
        try:
            lines = os.read(self.events, 1 << 20).splitlines()
        except BlockingIOError:
            return []
        return [r.get("event") or r["note"] for r in map(json.loads, lines)]

    def run(self, app, scenario):
        async def main():
            queue = asyncio.Queue()
            queue.put_nowait({"type": "websocket.connect"})

            async def send(message):
                pass

            call = asyncio.ensure_future(self.inside.wrap(app)({"type": "websocket", "path": "/"}, queue.get, send))
            await scenario(queue)
            call.cancel()
            await asyncio.wait([call])

        asyncio.run(main())

    def close(self):
        os.close(self.events)
        os.close(self.inside._events)
        self.shared.close()
        self.inside._shared.close()


@pytest.fixture
def within(tmp_path):
    made = []

    def make(plan):
        made.append(Within(tmp_path, plan))
        return made[0]

    yield make
    for each in made:
        each.close()


async def soon():
    await asyncio.sleep(0.03)


async def greeting(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


def test_calls_and_answers_wait_for_their_turn(within):
    inside = within(Plan.of(error_at_once()))

    async def scenario(queue):
        await soon()
        assert inside.told() == []
        inside.shared.outer = 4
        await soon()
        assert inside.told() == ["app.called", "asgi.receive", "asgi.received", "asgi.send", "asgi.sent"]
        inside.shared.outer = 5
        await soon()
        assert inside.told() == ["asgi.receive"]
        queue.put_nowait({"type": "websocket.receive", "text": "beyond the plan"})
        await soon()
        assert inside.told() == ["asgi.received", "app.returned"]

    inside.run(greeting, scenario)


def test_a_plan_that_is_given_up_keeps_nothing_back(within):
    inside = within(Plan.of(error_at_once()))

    async def scenario(queue):
        inside.shared.set_free()
        await soon()
        assert inside.told()[-2:] == ["asgi.sent", "asgi.receive"]

    inside.run(greeting, scenario)


def test_a_cancellation_that_comes_too_early_waits_for_the_answer(within):
    story = Story().opens()
    story.app(AsgiReceive)
    story.delivers(ws.TextMessage("one"))
    story.app(AsgiReceived, {"type": "websocket.receive", "text": "one"})
    inside = within(Plan.of(story.trace))
    got = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        got.append(await asyncio.wait_for(receive(), 0.02))

    async def scenario(queue):
        inside.shared.outer = 5
        await soon()
        await soon()
        queue.put_nowait({"type": "websocket.receive", "text": "one"})
        await soon()
        assert inside.told()[-1] == "asgi.receive"
        inside.shared.outer = 7
        await soon()
        assert got == [{"type": "websocket.receive", "text": "one"}]
        assert inside.told() == ["asgi.received", "app.returned"]

    inside.run(app, scenario)


def test_a_cancellation_that_comes_too_early_waits_for_its_turn(within):
    story = Story().opens()
    story.app(AsgiReceive)
    story.delivers(ws.TextMessage("one"))
    story.actor = "websocket 2"
    story.app(AsgiReceive)
    story.actor = "websocket 1"
    story.app(AsgiReceiveCancelled)
    inside = within(Plan.of(story.trace))

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), 0.02)

    async def scenario(queue):
        inside.shared.outer = 5
        await soon()
        await soon()
        assert inside.told()[-1] == "asgi.receive"
        inside.inside.record(AsgiReceive, "websocket 2")
        inside.shared.outer = 7
        await soon()
        assert inside.told()[-2:] == ["asgi.receive_cancelled", "app.returned"]

    inside.run(app, scenario)


def test_an_answer_that_is_kept_back_is_not_lost_when_the_application_cancels(within):
    story = Story().opens()
    story.app(AsgiSend, {"type": "websocket.send", "text": "one"})
    story.delivers(ws.TextMessage("two"))
    story.app(AsgiSent, "websocket.send")
    inside = within(Plan.of(story.trace))
    got = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        got.append(await asyncio.wait_for(send({"type": "websocket.send", "text": "one"}), 0.02))

    async def scenario(queue):
        inside.shared.outer = 5
        await soon()
        await soon()
        assert got == [None]
        assert inside.told()[-3:] == ["late", "asgi.sent", "app.returned"]

    inside.run(app, scenario)


COORDINATOR = """
import mmap, os, sys, time
told = b""
while b"holding" not in told:
    told += os.read(int(sys.argv[2]), 65536)
time.sleep(0.2)
with open(sys.argv[1], "r+b") as file:
    mmap.mmap(file.fileno(), 4096)[0:4] = (7).to_bytes(4, "little")
"""


def test_a_cancellation_waits_with_the_global_lock_for_the_held_delivery(within, tmp_path):
    inside = within(Plan.of(only_a_warning()))
    inside.shared.outer = 6
    ticks, took = [], []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        began = time.monotonic()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), 0.3)
        took.append(time.monotonic() - began)

    def tick():
        while not took:
            ticks.append(time.monotonic())
            time.sleep(0.001)
        ticks.append(time.monotonic())

    async def scenario(queue):
        for _ in range(150):
            await asyncio.sleep(0.01)
            if took:
                return

    os.set_blocking(inside.events, True)
    command = [sys.executable, "-c", COORDINATOR, str(tmp_path / "progress"), str(inside.events)]
    interval = sys.getswitchinterval()
    watch = threading.Thread(target=tick)
    with subprocess.Popen(command, pass_fds=[inside.events]) as coordinator:
        watch.start()
        inside.run(app, scenario)
    watch.join()
    assert coordinator.returncode == 0
    assert 0.5 <= took[0] < 0.3 + 1.0
    assert max(after - before for before, after in itertools.pairwise(ticks)) > 0.15
    assert sys.getswitchinterval() == interval


def test_the_inside_imports_little():
    code = """
import sys, models.process.inside
print(*{n.partition(".")[0] for n, m in sys.modules.items() if "site-packages" in str(getattr(m, "__file__", ""))})
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {name for name in ran.stdout.split() if not name.startswith("_")}
    assert foreign <= {"attr", "attrs", "packaging"}


# The raw client's understanding.


class Book(list):
    def __call__(self, kind, actor, *fields):
        assert actor == "client"
        self.append((kind, *fields))


def opened():
    said, heard = Book(), Book()
    decoder = Decoder("client", said, heard)
    story = Story().opens()
    request = next(e for e in story.trace.of(TcpSend) if e.data).data
    decoder.sent(request[:20])
    decoder.sent(request[20:])
    decoder.got(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
    assert said == [(WsHandshake, "sends", "/")]
    assert heard == [(WsHandshake, "gets", 101)]
    said.clear()
    heard.clear()
    return decoder, story.wire, said, heard


def test_both_directions_of_a_websocket_are_understood():
    decoder, wire, said, heard = opened()
    for message in (ws.TextMessage("a", message_finished=False), ws.Ping(b"p"), ws.TextMessage("b"), ws.Pong(b"")):
        decoder.sent(wire.send(message))
    decoder.sent(wire.send(ws.CloseConnection(1000)))
    assert said == [
        (WsFragment, "sends", "a"),
        (WsPing, "sends", b"p"),
        (WsText, "sends", "ab"),
        (WsPong, "sends", b""),
        (WsClose, "sends", 1000),
    ]
    server = Connection(ConnectionType.SERVER)
    for message in (ws.BytesMessage(b"x"), ws.Pong(b"y"), ws.CloseConnection(1001)):
        data = server.send(message)
        decoder.got(data[:1])
        decoder.got(data[1:])
    assert heard == [(WsBinary, "gets", b"x"), (WsPong, "gets", b"y"), (WsClose, "gets", 1001)]


def test_garbage_ends_the_understanding_of_one_direction():
    decoder, _, said, heard = opened()
    decoder.got(b"\xff\xff\xff")
    decoder.got(b"\x81\x01a")
    assert [kind for kind, *_ in heard] == [WsGarbage]
    decoder.sent(b"\xff\xff\xff")
    assert said == []


def test_a_refused_handshake_and_requests_are_understood():
    said, heard = Book(), Book()
    decoder = Decoder("client", said, heard)
    decoder.sent(b"GET /1 HTTP/1.1\r\nhost: x\r\n\r\nPOST /2 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
    decoder.got(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabHTTP/1.1 404 No\r\ncontent-length: 9\r\n\r\n")
    assert said == [(HttpRequest, "GET", "/1"), (HttpRequest, "POST", "/2")]
    assert heard == [(HttpResponse, 200, b"ab")]
    decoder.ended()
    assert [kind for kind, *_ in heard] == [HttpResponse, HttpCutOff]

    decoder, heard = Decoder("client", Book(), again := Book()), again
    decoder.sent(next(e for e in Story().opens().trace.of(TcpSend) if e.data).data)
    decoder.got(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
    assert heard == [(WsHandshake, "gets", 403)]


# Servers.

GRANIAN_LOG = """\
[INFO] Started worker-1
[WARNING] Unsupported websocket message received Pong([104, 98])
[ERROR] Application callable raised an exception
Traceback (most recent call last):
  File "futures.py", line 4, in future_watcher
    await inner(watcher.scope, watcher.proto)
RuntimeError: ASGI flow error
"""


def log_of(name, text):
    driver = servers.driver_for(environments.parse_requirement(name))
    return [(r.level, r.message, r.exception) for r in servers.records(enumerate(text.splitlines()), driver.log)]


def test_the_log_is_read_as_it_is_printed():
    assert log_of("granian", GRANIAN_LOG) == [
        ("INFO", "Started worker-1", None),
        ("WARNING", "Unsupported websocket message received Pong([104, 98])", None),
        ("ERROR", "Application callable raised an exception", "RuntimeError: ASGI flow error"),
    ]
    assert log_of("uvicorn", "WARNING:  Invalid HTTP request received.\nnoise") == [
        ("WARNING", "Invalid HTTP request received.", None)
    ]
    line = "[2026-01-01 10:00:00 +0000] [17] [ERROR] Error in ASGI Framework"
    assert log_of("hypercorn", line) == [("ERROR", "Error in ASGI Framework", None)]


def test_extras_of_ours_become_options_and_packages():
    requirement = environments.parse_requirement("uvicorn[h11,wsproto]>=0.30")
    driver = servers.driver_for(requirement)
    assert driver.to_install(requirement) == ["uvicorn>=0.30", "h11", "wsproto"]
    command = driver.command(Path("python"), 8000, requirement)
    assert command[:7] == ["python", "-m", "uvicorn", "--http", "h11", "--ws", "wsproto"]
    assert command[-1] == "asgi_sim_door:app"
    wheel = environments.parse_requirement("granian @ file:///tmp/granian-1.4.1.whl")
    assert servers.driver_for(wheel).to_install(wheel) == ["granian @ file:///tmp/granian-1.4.1.whl"]


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("daphne==4.2", r"daphne==4.2 cannot be replayed .* granian, uvicorn, hypercorn only"),
        ("granian=1.3", r"'granian=1.3' is no requirement.*granian==1.3.2"),
        ("granian[fast]", r"granian has no combination with 'fast'. It takes no extras"),
    ],
)
def test_a_server_that_cannot_be(requirement, said):
    with pytest.raises(UsageError, match=said):
        confirm(error_at_once(), ECHO, requirement=requirement, invariants=[no_flow_error])


def test_a_run_that_spoke_tls_is_not_replayed():
    story = Story().opens()
    story.record(TcpSend, "client", "connection 1", "server", "text 'hi'", b"")
    with pytest.raises(UsageError, match="speaks TLS"):
        confirm(story.trace, ECHO, requirement="granian==1.3.2", invariants=[no_flow_error])


def test_a_run_in_which_nothing_happened_is_not_replayed():
    with pytest.raises(UsageError, match="nothing to replay"):
        confirm(Trace(Clock()), ECHO, requirement="granian==1.3.2", invariants=[no_flow_error])


# Environments.


def test_where_environments_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ASGI_SIM_CACHE", raising=False)
    assert environments.cache_directory() == tmp_path / "asgi-sim"
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path / "mine"))
    assert environments.cache_directory() == tmp_path / "mine"
    monkeypatch.delenv("ASGI_SIM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert environments.cache_directory() == Path.home() / ".cache" / "asgi-sim"


def test_a_place_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"no environment can be kept under .*file.*Set ASGI_SIM_CACHE"):
        environments.make(["granian==1.3.2"])


def interpreter(path, version):
    """A stand-in for an interpreter: says its version, or, without one, fails as pyenv's shims do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{f'echo {version}' if version else 'exit 127'}\n")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_is_looked_for_where_it_may_be(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:{os.environ['PATH']}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    interpreter(tmp_path / "shims" / "python3.77", None)
    with pytest.raises(UsageError, match=r"no working interpreter for Python '3.77'.*python3.77 \(does not run\)"):
        environments.find_python("3.77")
    interpreter(tmp_path / "pyenv/versions/3.77.9/bin/python", "3.77.9")
    newest = interpreter(tmp_path / "pyenv/versions/3.77.10/bin/python", "3.77.10")
    interpreter(tmp_path / "pyenv/versions/3.7/bin/python", "3.7.1")
    assert environments.find_python("3.77") == (newest, "3.77.10")
    assert environments.find_python("3.77.9")[1] == "3.77.9"
    assert environments.find_python(None) == (sys.executable, "%d.%d.%d" % sys.version_info[:3])
    assert environments.find_python(newest) == (newest, "3.77.10")
    with pytest.raises(UsageError, match=r"Python 3.7.1 at .* is too old"):
        environments.find_python(str(tmp_path / "pyenv/versions/3.7/bin/python"))
    with pytest.raises(UsageError, match=r"no working interpreter for Python '/nowhere/python'"):
        environments.find_python("/nowhere/python")
    with pytest.raises(UsageError, match=r"'three' is neither a Python version"):
        environments.find_python("three")


def test_old_servers_get_the_old_libraries_that_they_need():
    assert environments.pins(environments.parse_requirement("granian==1.2.3")) == ["click<8.2"]
    assert environments.pins(environments.parse_requirement("granian==1.3.2")) == []
    assert environments.pins(environments.parse_requirement("granian")) == []


def test_pips_reason_is_given_with_the_versions_around_the_one_that_was_wanted():
    listed = ", ".join(f"1.{n}.0" for n in range(30))
    output = f"""\
WARNING: the cache is disabled
ERROR: Could not find a version that satisfies the requirement granian==1.10.1 (from versions: {listed})
ERROR: No matching distribution found for granian==1.10.1
"""
    said = reason(output, "installing granian==1.10.1")
    assert "(from versions: …, 1.5.0, 1.6.0, 1.7.0, 1.8.0, 1.9.0, 1.10.0, 1.11.0, " in said
    assert "1.16.0, …)" in said
    assert "ERROR: No matching distribution found for granian==1.10.1" in said
    assert "never published" in said
    assert reason("Traceback\nOSError: disk full") == "pip says: Traceback OSError: disk full"


# The judgement.


def test_a_confirmation_tells_what_was_seen():
    confirmation = Confirmation(
        requirement="granian",
        version="1.3.2",
        python="3.11.7",
        confirmed=False,
        order_kept=False,
        violations=[],
        trace=error_at_once(),
        deviation="step 12 of 16 did not come within 2 s",
        steps=(11, 16),
        unviolated=("no-flow-error",),
        unjudged=("no-text-lost",),
    )
    said = confirmation.describe().splitlines()
    assert said[0].startswith("not reproduced on granian (1.3.2), a real process on Python 3.11.7")
    assert "  not violated: no-flow-error" in said
    assert any("no-text-lost" in line and "not judged" in line for line in said)
    assert any("11 of 16 steps" in line and "step 12 of 16" in line for line in said)
    assert any(f'gets RuntimeError("{FLOW_ERROR}") out of receive()' in line for line in said)


# Real servers.


@pytest.fixture(scope="session")
def python():
    """An interpreter that the old Granians have wheels for."""
    if sys.version_info < (3, 13):
        return None
    for version in ("3.12", "3.11", "3.10"):
        try:
            environments.find_python(version)
        except UsageError:
            continue
        return version
    pytest.skip("no interpreter that granian 1.3.2 has a wheel for")


@pytest.fixture(autouse=True)
def _apps(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.fixture
def groups(monkeypatch):
    """The process groups of the servers that a test starts."""
    started = []
    original = servers.ServerProcess.__init__

    def remember(self, *arguments):
        original(self, *arguments)
        started.append(self._process.pid)

    monkeypatch.setattr(servers.ServerProcess, "__init__", remember)
    return started


def running(groups):
    """The processes of these groups that run on; one that is being ended has a moment to go."""
    deadline = time.monotonic() + 2.0
    while (found := alive(groups)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def alive(groups):
    """The processes of these groups; a zombie waits for whoever adopted it, and does not run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group, *_ = stat.read_text().rpartition(")")[2].split()
            if int(group) in groups and state not in "ZX":
                found.append(stat.parent.name)
    return found


def kinds(confirmation, actor="websocket 1"):
    return [e.kind for e in confirmation.trace if e.actor == actor]


def repeated(trace, application, requirement, invariants, python):
    return [
        confirm(trace(), application, requirement=requirement, invariants=invariants, python=python)
        for _ in range(REPEATS)
    ]


@pytest.mark.real
@pytest.mark.parametrize(("trace", "application"), [(error_at_once, ECHO), (error_later, BUSY)])
def test_a_pong_is_an_error_on_1_3_2(trace, application, python, groups):
    for confirmation in repeated(trace, application, "granian==1.3.2", [no_flow_error], python):
        assert confirmation.confirmed, confirmation.describe()
        assert confirmation.order_kept, confirmation.describe()
        assert confirmation.describe().startswith("confirmed on granian==1.3.2")
        assert kinds(confirmation)[-2:] == ["asgi.receive_failed", "app.raised"]
        (warning,) = confirmation.trace.of(LoggedWarning)
        assert warning.message == "Unsupported websocket message received Pong([104, 98])"
        (error,) = confirmation.trace.of(LoggedError)
        assert error.exception == f"RuntimeError: {FLOW_ERROR}"
        assert [(e.way, e.payload) for e in confirmation.trace.of(WsClose)] == [("gets", 1005)]
    assert groups
    assert not running(groups)


@pytest.mark.real
@pytest.mark.parametrize(("trace", "application"), [(error_at_once, ECHO), (error_later, BUSY)])
def test_a_pong_is_ignored_on_1_4_4(trace, application, python):
    for confirmation in repeated(trace, application, "granian==1.4.4", [no_flow_error, no_log], python):
        assert not confirmation.confirmed, confirmation.describe()
        assert not confirmation.violations
        assert not confirmation.order_kept
        assert "receive()" in confirmation.deviation
        assert confirmation.seconds < 10


@pytest.mark.real
def test_a_pong_for_a_cancelled_receive_is_a_warning_alone_on_1_3_2(python):
    for confirmation in repeated(only_a_warning, POLLING, "granian==1.3.2", [no_log], python):
        assert confirmation.confirmed, confirmation.describe()
        assert confirmation.order_kept, confirmation.describe()
        assert not list(confirmation.trace.of(AsgiReceiveFailed))
        assert [e.message for e in confirmation.trace.of(LoggedWarning)] == [
            "Unsupported websocket message received Pong([104, 98])"
        ]
        assert [e.payload for e in confirmation.trace.of(WsText)] == ["hi", "hi"]


@pytest.mark.real
def test_a_pong_for_a_cancelled_receive_is_nothing_on_1_4_4(python):
    for confirmation in repeated(only_a_warning, POLLING, "granian==1.4.4", [no_log], python):
        assert not confirmation.confirmed, confirmation.describe()
        assert confirmation.order_kept, confirmation.describe()


@pytest.mark.real
@pytest.mark.parametrize("requirement", ["granian==1.3.2", "granian==1.4.4"])
def test_a_pong_that_nobody_reads_is_nothing(requirement, python):
    for confirmation in repeated(deaf, DEAF, requirement, [no_flow_error, no_log], python):
        assert not confirmation.confirmed, confirmation.describe()
        assert confirmation.order_kept, confirmation.describe()
        assert [e.how for e in confirmation.trace.of(TcpClosed)] == ["reset"]


@pytest.mark.real
def test_a_text_that_a_cancelled_receive_has_read_is_lost(python):
    trace = lambda: only_a_warning(ws.TextMessage("first"))  # noqa: E731
    for confirmation in repeated(trace, POLLING, "granian==1.4.4", [no_text_lost], python):
        assert confirmation.confirmed, confirmation.describe()
        assert confirmation.order_kept, confirmation.describe()


@pytest.mark.real
def test_a_close_that_a_cancelled_receive_has_read_is_a_flow_error_later(python):
    trace = cancelled(ws.CloseConnection(1000))
    trace.app(AsgiReceive)
    trace.app(AsgiReceiveFailed, "RuntimeError", FLOW_ERROR)
    confirmation = confirm(trace.trace, POLLING, requirement="granian==1.4.4", invariants=[no_log], python=python)
    assert confirmation.order_kept, confirmation.describe()
    assert kinds(confirmation)[-4:] == ["asgi.receive_cancelled", "asgi.receive", "asgi.receive_failed", "app.raised"]


@pytest.mark.real
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12"])
def test_on_other_interpreters(version):
    try:
        environments.find_python(version)
    except UsageError:
        pytest.skip(f"there is no Python {version}")
    for trace, application, invariant in (
        (error_at_once, ECHO, no_flow_error),
        (error_later, BUSY, no_flow_error),
        (only_a_warning, POLLING, no_log),
    ):
        said = []
        confirmation = confirm(
            trace(), application, requirement="granian==1.3.2", invariants=[invariant], python=version, say=said.append
        )
        assert confirmation.confirmed, confirmation.describe()
        assert confirmation.order_kept, confirmation.describe()
        assert confirmation.python.startswith(f"{version}.")
        assert said[-1].startswith("replaying ")


@pytest.mark.real
@pytest.mark.parametrize("requirement", ["uvicorn[h11,wsproto]", "uvicorn[httptools,websockets-sansio]", "hypercorn"])
def test_other_servers(requirement):
    confirmation = confirm(echoed(), ECHO, requirement=requirement, invariants=[no_text_lost, no_log])
    assert confirmation.order_kept, confirmation.describe()
    assert not confirmation.violations, confirmation.describe()
    hello = Application("process_apps:hello")
    confirmation = confirm(answered(), hello, requirement=requirement, invariants=[two_answers])
    assert confirmation.order_kept, confirmation.describe()
    assert not confirmation.violations, confirmation.describe()


@pytest.mark.real
def test_what_the_client_sends_has_causes_as_in_the_simulator(python):
    confirmation = confirm(error_later(), BUSY, requirement="granian==1.3.2", invariants=[no_flow_error], python=python)
    events = confirmation.trace.events
    for said in confirmation.trace.of(WsPong, WsText):
        sent = next(e for e in events if isinstance(e, TcpSend) and e.cause == said.seq)
        delivered = next(e for e in events if isinstance(e, TcpDeliver) and e.cause == sent.seq)
        assert (sent.actor, delivered.actor, delivered.source) == ("client", "server", "client")
        assert sent.segment == delivered.segment
        assert delivered.size == len(sent.data)


@always("never", "Nothing is ever right.")
def never(trace):
    return Violation("wrong")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "why"), [("frozen", "did not come within"), ("dying", "the server ended with status")]
)
def test_a_server_that_goes_another_way_ends_the_replay_soon(name, why, python):
    application = Application(f"process_apps:{name}")
    began = time.monotonic()
    confirmation = confirm(
        error_at_once(), application, requirement="granian==1.3.2", invariants=[no_flow_error, never], python=python
    )
    assert time.monotonic() - began < 15
    assert why in confirmation.deviation
    assert not confirmation.order_kept
    assert confirmation.violations == [("never", "wrong")]
    assert not confirmation.confirmed


@pytest.mark.real
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("process_apps:unwilling", r"ended with status .*lifespan startup.*no database"),
        ("process_apps:missing", r"ended with status .*has no attribute 'missing'"),
        ("process_nowhere:app", r"'process_nowhere' cannot be imported .* application's requires"),
    ],
)
def test_a_server_that_does_not_start_says_why(target, said, python, groups):
    with pytest.raises(StartupError, match=f"(?s){said}"):
        confirm(
            error_at_once(),
            Application(target),
            requirement="granian==1.3.2",
            invariants=[no_flow_error],
            python=python,
        )
    assert groups
    assert not running(groups)


@pytest.mark.real
def test_a_version_that_cannot_be_installed_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path))
    said = r"installing granian==0\.0\.0 for Python .* failed\. pip says: .*No matching distribution found"
    with pytest.raises(UsageError, match=said):
        confirm(error_at_once(), ECHO, requirement="granian==0.0.0", invariants=[no_flow_error])
    assert [p.suffix for p in (tmp_path / "envs").iterdir()] == [".lock"]


BUILDER = """
import sys
from models.environments.make import make
print(make([sys.argv[1]], say=lambda text: print(text.split()[0], flush=True)).directory)
"""


@pytest.mark.real
def test_two_builders_make_one_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ASGI_SIM_CACHE", str(tmp_path))
    command = [sys.executable, "-c", BUILDER, "h11==0.16.0"]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(builder.communicate()[0].split() for builder in builders)
    assert [builder.returncode for builder in builders] == [0, 0]
    assert said[0][0] == "installing"
    assert said[1][0] == "waiting"
    assert said[0][1] == said[1][-1]
    again = []
    environment = environments.make(["h11==0.16.0"], say=again.append)
    assert not again
    assert str(environment.directory) == said[0][1]
    assert environment.version_of("h11") == "0.16.0"
    (environment.directory / environments.MARKER).unlink()
    monkeypatch.setattr(environments, "_build", lambda directory, *_: directory.mkdir())
    with pytest.raises(UsageError, match="vanished while it was made"):
        environments.make(["h11==0.16.0"], say=again.append)
    assert again[0].startswith("installing h11==0.16.0")
    assert not list(environment.directory.iterdir())
