"""What a program asks of its surroundings: virtual inside a world, refused where it cannot be, real everywhere else."""

from __future__ import annotations

import _socket
import _thread
import asyncio
import concurrent.futures
import contextvars
import copy
import datetime
import functools
import http.client
import importlib
import logging
import multiprocessing
import os
import pickle
import queue
import random
import secrets
import select
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import types
import uuid
import warnings
from datetime import datetime as imported_datetime
from os import urandom as imported_urandom
from random import randint as imported_randint
from time import monotonic as imported_monotonic
from time import time as imported_time
from typing import TYPE_CHECKING, Any

import pytest

from sim.errors import BoundaryError
from sim.world import boundary as boundary_module
from sim.world.boundary import Boundary, current_world
from sim.world.clock import EPOCH, MONOTONIC
from sim.world.events import LoggedError, LoggedWarning
from sim.world.sockets import SimSocket

from .worlds import a_world, play_world, run_in, run_main, run_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module", autouse=True)
def boundary() -> Iterator[None]:
    with Boundary():
        yield


# Time.


def test_the_clocks_are_virtual() -> None:
    async def main() -> list[Any]:
        await asyncio.sleep(2.5)
        return [
            time.time(),
            imported_time(),
            time.time_ns(),
            time.clock_gettime(time.CLOCK_REALTIME),
            time.clock_gettime_ns(time.CLOCK_REALTIME),
            time.monotonic(),
            imported_monotonic(),
            time.monotonic_ns(),
            time.perf_counter(),
            time.perf_counter_ns(),
            time.process_time(),
            time.thread_time(),
            time.clock_gettime(time.CLOCK_MONOTONIC),
            time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        ]

    wall, mono = EPOCH + 2.5, MONOTONIC + 2.5
    nanos = round(wall * 1e9), round(mono * 1e9)
    expected = [wall, wall, nanos[0], wall, nanos[0], mono, mono, nanos[1], mono, nanos[1], mono, mono, mono, nanos[1]]
    assert run_main(main) == expected


def test_dates_are_virtual() -> None:
    def ask() -> list[Any]:
        return [
            datetime.datetime.now(datetime.timezone.utc),
            datetime.datetime.now(tz=datetime.timezone.utc),
            imported_datetime.now(datetime.timezone.utc),
            imported_datetime.now().astimezone(datetime.timezone.utc),
            datetime.datetime.today().astimezone(datetime.timezone.utc),
            datetime.datetime.utcnow().replace(tzinfo=datetime.timezone.utc),
        ]

    began = datetime.datetime(2024, 6, 7, tzinfo=datetime.timezone.utc)
    assert run_sync(ask) == [began] * 6
    assert run_sync(lambda: datetime.datetime.utcnow().tzinfo) is None
    assert run_sync(datetime.date.today) == datetime.datetime.fromtimestamp(EPOCH).date()


def test_broken_down_time_is_virtual() -> None:
    def ask() -> list[Any]:
        return [
            time.gmtime(),
            time.gmtime(None),
            time.gmtime(0),
            time.localtime(),
            time.ctime(),
            time.ctime(0),
            time.strftime("%Y-%m-%d %H"),
            time.strftime("%Y", (1999, 1, 1, 0, 0, 0, 0, 1, 0)),
        ]

    local = time.localtime(EPOCH)
    assert run_sync(ask) == [
        time.gmtime(EPOCH),
        time.gmtime(EPOCH),
        time.gmtime(0),
        local,
        time.ctime(EPOCH),
        time.ctime(0),
        time.strftime("%Y-%m-%d %H", local),
        "1999",
    ]


def test_the_two_clocks_do_not_agree() -> None:
    """A program that mixes them shows it."""
    assert run_sync(time.time) - run_sync(time.monotonic) > 1e9


# Entropy.


def draw() -> list[Any]:
    return [
        random.random(),
        random.randint(1, 10**9),
        imported_randint(1, 10**9),
        random.sample(range(1_000), 3),
        random.choice(range(10**9)),
        random.gauss(0, 1),
        random.Random().random(),
        random.SystemRandom().random(),
        os.urandom(8),
        imported_urandom(8),
        os.getrandom(8),
        uuid.uuid1(),
        uuid.uuid4(),
        secrets.token_hex(8),
        secrets.token_urlsafe(8),
        secrets.randbelow(10**9),
        ssl.RAND_bytes(8),
    ]


def test_entropy_is_the_same_in_each_world_and_differs_from_draw_to_draw() -> None:
    first, again, other = run_sync(draw), run_sync(draw), run_sync(draw, seed=1)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
    assert len({repr(value) for value in first}) == len(first)


def test_entropy_outside_is_real() -> None:
    inside = run_sync(draw)
    assert all(a != b for a, b in zip(inside, draw(), strict=True))


def test_outside_its_state_is_untouched() -> None:
    random.seed(7)
    expected = [random.random() for _ in range(3)]
    random.seed(7)
    found = [random.random()]
    run_sync(draw)
    run_sync(lambda: random.seed(1))
    found += [random.random(), random.random()]
    assert found == expected


def test_a_program_may_seed_and_restore_its_generator() -> None:
    def ask() -> tuple[float, float, float]:
        random.seed(1)
        state = random.getstate()
        first = random.random()
        random.setstate(state)
        return first, random.random(), random.Random(1).random()

    first, again, seeded = run_sync(ask)
    assert first == again == seeded == random.Random(1).random()


def test_drawing_from_the_generator_leaves_the_systems_entropy_as_it_was() -> None:
    assert run_sync(lambda: [random.random(), os.urandom(8)][1]) == run_sync(lambda: os.urandom(8))


def test_uuid1_is_one() -> None:
    value = run_sync(uuid.uuid1)
    assert (value.version, value.variant) == (1, uuid.RFC_4122)
    assert value.time == round(EPOCH * 1e7) + 0x01B21DD213814000
    assert run_sync(uuid.getnode) == value.node
    assert run_sync(lambda: uuid.uuid1(node=5, clock_seq=3)).fields[3:] == (128, 3, 5)


def test_negative_sizes_are_errors_as_ever() -> None:
    with pytest.raises(ValueError, match="negative argument"):
        run_sync(lambda: os.urandom(-1))


# Where references are found.


def make_module(name: str, source: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(source, module.__dict__)
    return module


HOLDER = """
import time, random
from time import time as now, sleep
from datetime import datetime
from socket import socket
from random import random as dice
def default(clock=time.time, *, dice=random.random): return clock(), dice()
class Clock:
    plain = time.time
    static = staticmethod(time.time)
    def method(self, clock=time.time): return clock()
def ask(): return now(), datetime.now().timestamp(), default()[0], Clock().plain(), Clock().static(), Clock().method()
"""


@pytest.mark.parametrize("moment", ["before", "during", "inside"])
def test_modules_that_hold_a_function_themselves(moment: str) -> None:
    """Imported before the boundary was opened, while it is open, or by a program inside a world."""
    name = f"holder_{moment}"
    closed = Boundary._open
    assert closed == 1, "this test closes the module's own boundary"
    outer = Boundary.__new__(Boundary)
    outer._closed = False
    outer.close()
    try:
        if moment == "before":
            make_module(name, HOLDER)
        with Boundary():
            if moment == "during":
                make_module(name, HOLDER)
            if moment == "inside":
                run_sync(lambda: make_module(name, HOLDER))
            holder: Any = sys.modules[name]
            assert run_sync(holder.ask) == (EPOCH,) * 6
            assert run_sync(lambda: type(holder.socket())) is SimSocket
            assert run_sync(holder.default) == run_sync(holder.default)
            assert all(abs(seconds - time.time()) < 3_600 for seconds in holder.ask())
        assert holder.now is time.time
        assert holder.datetime is datetime.datetime
        assert holder.socket is socket.socket
        assert holder.default.__defaults__ == (time.time,)
        assert holder.default.__kwdefaults__ == {"dice": random.random}
        assert holder.Clock.__dict__["plain"] is time.time
        assert holder.Clock.__dict__["static"].__func__ is time.time
        assert holder.Clock.method.__defaults__ == (time.time,)
    finally:
        del sys.modules[name]
        Boundary()


def test_a_builtin_in_a_class_body_is_still_no_method() -> None:
    class Clock:
        now = time.time

    assert run_sync(Clock().now) == EPOCH
    assert abs(Clock().now() - time.time()) < 3_600


def test_closing_restores_everything() -> None:
    """Every attribute of every module, and every attribute of the classes that were changed."""
    code = """
import sys, gc
import asyncio, concurrent.futures, multiprocessing, secrets, uuid, ssl, selectors, copyreg, hypercorn.asyncio, uvicorn
import anyio._backends._asyncio
import sim.world.world
from sim.world import answers
from sim.world.boundary import Boundary

def snapshot():
    found = {}
    for name, module in list(sys.modules.items()):
        for key, value in list(vars(module).items()):
            if not key.startswith("__"):
                found[name, key] = id(value)
    for owner, name, _ in answers.methods():
        found[owner.__qualname__, name] = id(owner.__dict__[name])
    found["dispatch table"] = sorted(map(repr, copyreg.dispatch_table))
    found["hook"] = id(sys.unraisablehook)
    return found

before = snapshot()
one, two = Boundary(), Boundary()
opened = snapshot()
assert len([k for k, v in opened.items() if k in before and before[k] != v]) > 100
one.close()
one.close()
assert snapshot() != before, "the second is still open"
two.close()
changed = [k for k, v in snapshot().items() if k in before and before[k] != v]
assert not changed, changed
with Boundary():
    assert snapshot() != before
changed = [k for k, v in snapshot().items() if k in before and before[k] != v]
assert not changed, changed
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_odd_entry_among_the_modules_does_no_harm() -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            pytest.fail(f"{name} was asked of a lazy module")

    sys.modules["odd_lazy"] = Lazy("odd_lazy")
    sys.modules["odd_none"] = None  # type: ignore[assignment]
    sys.modules["odd_slots"] = object()  # type: ignore[assignment]
    try:
        boundary_module._rewrite({})
    finally:
        for name in ("odd_lazy", "odd_none", "odd_slots"):
            del sys.modules[name]


def test_dispatchers_look_like_what_they_stand_for() -> None:
    assert time.time.__name__ == "time"
    assert time.time.__doc__
    assert pickle.loads(pickle.dumps(time.time)) is time.time
    assert copy.deepcopy(time.time) is time.time
    assert repr(time.time) == "<built-in function time>"
    assert socket.getaddrinfo.__name__ == "getaddrinfo"
    poll: Any = select.epoll()
    assert isinstance(poll, select.epoll)  # type: ignore[arg-type]
    assert select.epoll.fromfd  # type: ignore[attr-defined]
    poll.close()


# Threads beside the world.


def test_other_threads_see_the_real_things() -> None:
    inside, asked = threading.Event(), threading.Event()
    found: list[Any] = []

    def other() -> None:
        inside.wait(60)
        found.extend(
            [time.time(), datetime.datetime.now().timestamp(), current_world(), type(socket.socket), os.getpid()]
        )
        with socket.socket() as sock:
            found.append(type(sock))
        time.sleep(0)
        asked.set()

    thread = threading.Thread(target=other)
    thread.start()
    real = time.time()

    def spin() -> None:
        inside.set()
        while not asked.is_set():
            pass

    run_sync(spin)
    thread.join()
    wall, date, world, _, pid, kind = found
    assert abs(wall - real) < 3_600
    assert abs(date - real) < 3_600
    assert world is None
    assert pid == os.getpid()
    assert kind is not SimSocket


def test_worlds_in_two_threads_at_once() -> None:
    barrier = threading.Barrier(2)

    def one(seed: int) -> tuple[bytes, float]:
        async def main() -> tuple[bytes, float]:
            await asyncio.sleep(seed)
            return os.urandom(8), time.time()

        with a_world(seed=seed, settle=0.0) as world:
            barrier.wait(60)
            return run_in(world, main)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        parallel = list(pool.map(one, (1, 2)))
    barrier = threading.Barrier(1)
    assert parallel == [one(1), one(2)]
    assert parallel[0][0] != parallel[1][0]


# Classes.


def test_isinstance_of_sockets() -> None:
    def ask() -> list[bool]:
        sock = socket.socket()
        return [
            isinstance(sock, socket.socket),
            isinstance(sock, _socket.socket),
            isinstance(sock, SimSocket),
            isinstance(5, socket.socket),
            issubclass(type(sock), socket.socket),
        ]

    assert run_sync(ask) == [True, True, True, False, True]
    with socket.socket() as real:
        assert isinstance(real, socket.socket)
        assert isinstance(real, _socket.socket)
        assert not isinstance(real, SimSocket)
        assert issubclass(type(real), socket.socket)
        assert not isinstance("x", socket.socket)


def test_subclasses_of_sockets() -> None:
    class Mine(socket.socket):
        pass

    class Raw(_socket.socket):
        pass

    with Mine() as sock:
        assert isinstance(sock, Mine)
        assert isinstance(sock, socket.socket)
        assert not isinstance(socket.socket, Mine)
        assert issubclass(Mine, socket.socket)
        assert not issubclass(int, Mine)
    raw = Raw()
    assert isinstance(raw, Raw)
    raw.close()
    for kind in (Mine, Raw, ssl.SSLSocket):
        with pytest.raises((BoundaryError, TypeError)):
            run_sync(kind)


def test_datetimes_are_what_they_were() -> None:
    value = datetime.datetime(2020, 1, 2)
    assert isinstance(value, datetime.datetime)
    assert isinstance(value, datetime.date)
    assert not isinstance(value.date(), datetime.datetime)
    assert issubclass(datetime.datetime, datetime.date)
    assert datetime.datetime.min < value < datetime.datetime.max
    assert datetime.datetime.fromisoformat("2020-01-02") == value
    assert datetime.datetime.strptime("2020", "%Y").year == 2020
    assert datetime.datetime.__name__ == "datetime"
    assert datetime.datetime.__module__ == "datetime"
    assert abs(datetime.datetime.now().timestamp() - time.time()) < 3_600


def test_datetimes_are_pickled_and_copied() -> None:
    value = datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.timezone.utc)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        text = pickle.dumps(value, protocol)
        assert pickle.loads(text) == value
        assert b"sim" not in text
    assert copy.copy(value) == copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(datetime.datetime)) is datetime.datetime
    assert (
        run_sync(lambda: pickle.loads(pickle.dumps(datetime.datetime.now(datetime.timezone.utc)))).timestamp() == EPOCH
    )


def test_subclasses_of_datetime() -> None:
    class Mine(datetime.datetime):
        pass

    value = run_sync(lambda: Mine.now(datetime.timezone.utc))
    assert type(value) is Mine
    assert value.timestamp() == EPOCH
    assert isinstance(value, datetime.datetime)
    assert issubclass(Mine, datetime.datetime)
    assert not isinstance(datetime.datetime(2020, 1, 1), Mine)
    assert abs(Mine.now().timestamp() - time.time()) < 3_600


def test_dispatch_on_datetime() -> None:
    @functools.singledispatch
    def kind(value: object) -> str:
        return "object"

    @kind.register(datetime.datetime)
    def _(value: object) -> str:
        return "datetime"

    assert kind(datetime.datetime(2020, 1, 1)) == "datetime"
    assert kind(datetime.date(2020, 1, 1)) == "object"


# What is refused.


class Refusal:
    """A way to reach for something real; `line` is what the error has to name."""

    def __init__(self, name: str, reach: Callable[[], Any], message: str) -> None:
        self.name, self.reach, self.message = name, reach, message


def _pool() -> None:
    concurrent.futures.ThreadPoolExecutor(1).submit(print)


def _processes() -> None:
    concurrent.futures.ProcessPoolExecutor(1).submit(print)


# Lambdas, because a list is not looked through: what stood in it would be the real thing.
REFUSALS = [
    Refusal("thread", lambda: threading.Thread(target=print).start(), r"threading\.Thread\.start\(\)"),
    Refusal("timer", lambda: threading.Timer(1, print).start(), r"threading\.Thread\.start\(\)"),
    Refusal("_thread", lambda: _thread.start_new_thread(print, ()), r"threading\.Thread\.start\(\)"),
    Refusal("pool", _pool, r"threading\.Thread\.start\(\)"),
    Refusal("process pool", _processes, r"was called inside a world"),
    Refusal("sleep", lambda: time.sleep(0), r"time\.sleep\(\) .* await asyncio\.sleep\(\) instead"),
    Refusal("condition", lambda: threading.Event().wait(1), r"threading\.Condition\.wait\(\)"),
    Refusal("queue", lambda: queue.Queue().get(), r"threading\.Condition\.wait\(\)"),
    Refusal("future", lambda: concurrent.futures.Future().result(), r"threading\.Condition\.wait\(\)"),
    Refusal("subprocess.run", lambda: subprocess.run(["true"], check=True), r"subprocess\.Popen\(\)"),
    Refusal("Popen", lambda: subprocess.Popen(["true"]), r"subprocess\.Popen\(\)"),
    Refusal("fork", lambda: os.fork(), r"os\.fork\(\)"),
    Refusal("system", lambda: os.system("true"), r"os\.system\(\)"),
    Refusal("popen", lambda: os.popen("true"), r"os\.popen\(\)"),
    Refusal("spawn", lambda: os.spawnlp(os.P_WAIT, "true", "true"), r"os\.fork\(\)"),
    Refusal("posix_spawn", lambda: os.posix_spawn("/bin/true", ["true"], {}), r"os\.posix_spawn\(\)"),
    Refusal("exec", lambda: os.execv("/bin/true", ["true"]), r"os\.execv\(\)"),
    Refusal("_exit", lambda: os._exit(3), r"os\._exit\(\)"),
    Refusal("abort", lambda: os.abort(), r"os\.abort\(\)"),
    Refusal("multiprocessing", lambda: multiprocessing.Process(target=print).start(), r"multiprocessing\.Process"),
    Refusal("spawned", lambda: multiprocessing.get_context("spawn").Process(target=print).start(), r"multiprocessing"),
    Refusal("udp", lambda: socket.socket(type=socket.SOCK_DGRAM), r"type SOCK_DGRAM was asked for"),
    Refusal("raw socket", lambda: _socket.socket(), r"_socket\.socket\(\)"),
    Refusal(
        "fromfd",
        lambda: socket.fromfd(0, socket.AF_INET, socket.SOCK_STREAM),
        r"descriptor 0 is not a simulated socket",
    ),
    Refusal(
        "blocking",
        lambda: socket.create_connection(("93.184.216.34", 80)),
        r"a blocking connect to 93\.184\.216\.34:80",
    ),
    Refusal("name", lambda: socket.create_connection(("example.org", 80)), r"the name 'example\.org' was looked up"),
    Refusal(
        "http",
        lambda: http.client.HTTPConnection("1.2.3.4").request("GET", "/"),
        r"a blocking connect to 1\.2\.3\.4:80",
    ),
    Refusal("gethostbyname", lambda: socket.gethostbyname("example.org"), r"the name 'example\.org' was looked up"),
    Refusal("gethostbyaddr", lambda: socket.gethostbyaddr("1.2.3.4"), r"socket\.gethostbyaddr\(\)"),
    Refusal("select", lambda: select.select([], [], [], 0), r"select\.select\(\)"),
    Refusal("poll", lambda: select.poll().poll(), r"select\.poll\(\) had to wait"),
    Refusal("epoll", lambda: select.epoll(), r"select\.epoll\(\)"),
    Refusal("selector", lambda: selectors.DefaultSelector(), r"a selector"),
    Refusal("SelectSelector", lambda: selectors.SelectSelector(), r"a selector"),
    Refusal("new loop", lambda: asyncio.new_event_loop(), r"asyncio\.new_event_loop\(\)"),
    Refusal("alarm", lambda: signal.alarm(1), r"signal\.alarm\(\)"),
    Refusal("itimer", lambda: signal.setitimer(signal.ITIMER_REAL, 1), r"signal\.setitimer\(\)"),
    Refusal("pause", lambda: signal.pause(), r"signal\.pause\(\)"),
    Refusal("kill", lambda: os.kill(1, 0), r"os\.kill\(1, 0\)"),
    Refusal("killpg", lambda: os.killpg(0, 0), r"os\.killpg\(\)"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: r.name)
def test_what_is_real_is_refused_even_if_the_error_is_swallowed(refusal: Refusal) -> None:
    caught: list[BaseException] = []

    async def main() -> None:
        try:
            refusal.reach()
        except Exception as exc:
            caught.append(exc)
        await asyncio.sleep(1)
        pytest.fail("the run went on")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(BoundaryError, match=refusal.message) as raised:
            run_main(main)
    assert caught == [raised.value]
    assert isinstance(raised.value, RuntimeError), "a program that catches broadly meets it as any other"
    where = r"At .*test_boundary\.py:\d+: \S"
    assert raised.match(where)


async def _create_exec() -> None:
    await asyncio.create_subprocess_exec("true")


async def _create_shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def _datagrams() -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))


async def _look_up() -> None:
    await asyncio.open_connection("example.org", 80)


@pytest.mark.parametrize(
    ("coroutine", "message"),
    [
        (_create_exec, r"asyncio\.create_subprocess_exec\(\)"),
        (_create_shell, r"asyncio\.create_subprocess_shell\(\)"),
        (_datagrams, "type SOCK_DGRAM"),
        (_look_up, r"the name 'example\.org'"),
    ],
)
def test_what_asyncio_has_that_is_real_is_refused(coroutine: Callable[[], Any], message: str) -> None:
    with pytest.raises(BoundaryError, match=message + r".* At .*test_boundary\.py:\d+: await ") as raised:
        run_main(coroutine)
    assert "asyncio/" not in str(raised.value)


def test_the_line_of_a_program_that_reaches_through_another_library() -> None:
    """Behind an installed distribution: the program's own line counts."""
    import anyio.from_thread

    async def main() -> None:
        with anyio.from_thread.start_blocking_portal():
            pass

    with pytest.raises(BoundaryError, match=r"At .*test_boundary\.py:\d+: with anyio\.from_thread\.start_blocking_p"):
        run_main(main)


def test_anyios_threads_run_at_once_as_an_executors_do() -> None:
    import anyio.to_thread

    variable = contextvars.ContextVar("variable", default="outside")

    def plain(value: str) -> tuple[str, str, int]:
        seen = variable.get()
        variable.set(value)
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return seen, variable.get(), threading.get_ident()

    async def main() -> tuple[Any, str]:
        variable.set("main")
        return await anyio.to_thread.run_sync(plain, "worker"), variable.get()

    assert run_main(main) == (("main", "worker", threading.get_ident()), "main")


def test_what_an_anyio_thread_raises_is_raised() -> None:
    import anyio.to_thread

    async def main() -> None:
        with pytest.raises(LookupError, match="lost"):
            await anyio.to_thread.run_sync(failing)

    def failing() -> None:
        raise LookupError("lost")

    run_main(main)


def test_the_line_is_not_that_of_the_runs_caller() -> None:
    """If no line of the program is on the stack, the library's is named, not the test's."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon(threading.Thread(target=print).start)
        await asyncio.sleep(1)

    with pytest.raises(BoundaryError, match=r"At .*(threading|events)\.py:\d+: "):
        run_main(main)


def test_the_first_refusal_counts() -> None:
    async def main() -> None:
        for reach in (lambda: time.sleep(1), os.fork):
            try:
                reach()
            except BoundaryError:
                pass
        raise ValueError("what the program made of it")

    with pytest.raises(BoundaryError, match=r"time\.sleep"):
        run_main(main)


def test_a_refusal_in_a_script_ends_the_run_too() -> None:
    def play(world: Any) -> None:
        async def script(host: Any) -> None:
            await host.sleep(1)
            time.sleep(1)

        world.start_script("script", script)

    with pytest.raises(BoundaryError, match=r"test_boundary\.py:\d+: time\.sleep\(1\)"):
        play_world(play)


def test_a_world_inside_a_world() -> None:
    async def main() -> None:
        run_sync(lambda: None)

    with pytest.raises(BoundaryError, match="a world already runs in this thread"):
        run_main(main)


def test_real_files_are_allowed(tmp_path: Any) -> None:
    def write() -> str:
        (tmp_path / "file").write_text("x")
        with open(tmp_path / "file") as file:
            return file.read() + str(os.path.exists(tmp_path))

    assert run_sync(write) == "xTrue"


def test_importing_is_allowed() -> None:
    sys.modules.pop("this_is_imported", None)
    assert run_sync(lambda: importlib.import_module("colorsys")).__name__ == "colorsys"


# The machine and the process.


def test_the_machine() -> None:
    assert run_sync(socket.gethostname) == "simulated"
    assert run_sync(socket.getfqdn) == "simulated"
    assert run_sync(lambda: socket.gethostbyname("localhost")) == "127.0.0.1"
    assert run_sync(lambda: socket.getaddrinfo("localhost", 80)[0][4]) == ("127.0.0.1", 80)
    assert run_sync(lambda: socket.getnameinfo(("127.0.0.1", 80), 0)) == ("127.0.0.1", "80")


def test_the_process() -> None:
    pids: list[int] = []

    def play(world: Any) -> None:
        async def main() -> None:
            pids.append(os.getpid())
            assert threading.current_thread() is threading.main_thread()

        world.start_process("one", main)
        world.start_process("two", main)
        world.run_until(lambda: len(pids) == 2, within=1)

    def in_a_thread() -> None:
        play_world(play)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert pids == [1_000, 1_001]


def test_a_process_may_signal_itself_and_its_neighbour() -> None:
    seen: list[tuple[str, int]] = []

    def play(world: Any) -> None:
        def process(name: str, *victims: int) -> Callable[[], Any]:
            async def main() -> None:
                before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append((name, number)))
                assert before == signal.SIG_DFL
                assert callable(signal.getsignal(signal.SIGUSR1))
                await asyncio.sleep(1)
                for pid in victims:
                    os.kill(pid, 0)
                    os.kill(pid, signal.SIGUSR1)
                if victims:
                    signal.raise_signal(signal.SIGUSR1)
                    os.kill(os.getpid(), signal.SIGUSR1)
                await asyncio.sleep(1)

            return main

        world.start_process("one", process("one", 1_001))
        world.start_process("two", process("two"))
        world.run_until(lambda: all(p.exited for p in world.processes), within=10)

    before = signal.getsignal(signal.SIGUSR1)
    play_world(play)
    assert seen == [("two", signal.SIGUSR1), ("one", signal.SIGUSR1), ("one", signal.SIGUSR1)]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_interrupting_the_main_thread() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
        _thread.interrupt_main()
        return seen

    assert run_main(main) == [signal.SIGINT]


def test_signals_need_a_process() -> None:
    def play(world: Any) -> None:
        signal.signal(signal.SIGUSR1, print)

    with pytest.raises(BoundaryError, match="a world that has no process yet"):
        play_world(play)


# Log records.


def test_log_records_from_warning_up_are_events_and_reach_no_handler(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("program")

    def log() -> None:
        logger.setLevel(logging.DEBUG)
        logger.info("not recorded")
        logger.warning("a %s", "warning")
        logger.error("at %r", object())
        try:
            raise ValueError(object())
        except ValueError:
            logger.exception("failed")

    with a_world(settle=0.0) as world:

        async def main() -> None:
            log()

        run_in(world, main)
    (warning,), errors = world.trace.of(LoggedWarning), list(world.trace.of(LoggedError))
    assert (warning.actor, warning.level, warning.logger, warning.message) == (
        "main",
        "WARNING",
        "program",
        "a warning",
    )
    assert [(e.message, e.exception) for e in errors] == [
        ("at <object object>", None),
        ("failed", "ValueError: <object object>"),
    ]
    assert warning.describe() == "[WARNING] a warning"
    assert errors[1].describe() == "[ERROR] failed (ValueError: <object object>)"
    assert caplog.records == []
    log()
    assert len(caplog.records) >= 3


def test_a_log_record_before_there_is_a_process() -> None:
    world = play_world(lambda world: logging.getLogger("scene").warning("early"))
    assert [(e.actor, e.message) for e in world.trace.of(LoggedWarning)] == [("world", "early")]


def test_asyncios_own_report_has_no_addresses() -> None:
    with a_world(settle=0.0) as world:

        async def main() -> None:
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_exception_handler({"message": "told", "future": asyncio.Future()})
            asyncio.get_running_loop().call_exception_handler({})

        run_in(world, main)
    reports = [(e.message, e.exception) for e in world.trace.of(LoggedError)]
    assert [message.partition(" <")[0] for message, _ in reports] == [
        "Exception in callback test_asyncios_own_report_has_no_addresses.<locals>.main.<locals>.<lambda>() at "
        + reports[0][0].rpartition(" at ")[2],
        "told",
        "Unhandled exception in event loop",
    ]
    assert reports[0][1] == "ZeroDivisionError: division by zero"
    assert "0x" not in world.trace.to_jsonl()


# The boundary itself.


def test_a_run_opens_a_boundary_of_its_own() -> None:
    code = """
import asyncio, time
from sim.world.boundary import Boundary
from sim.world.world import World
original = time.time
def play(world):
    assert Boundary._open == 1
    assert time.time() == 1717718400.0
with World() as world:
    world.run(play)
assert time.time is original
assert Boundary._open == 0
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_world_runs_here() -> None:
    assert current_world() is None
    with a_world() as world:
        assert current_world() is None
        world.run(lambda w: pytest.fail("another one answers") if current_world() is not w else None)
        assert current_world() is None


def test_a_world_that_raised_answers_no_more() -> None:
    def play(world: Any) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        play_world(play)
    assert current_world() is None
    assert abs(time.time() - datetime.datetime.now().timestamp()) < 3_600
    assert time.monotonic() != MONOTONIC
