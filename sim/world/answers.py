"""What a world answers when a program asks its surroundings: one table, a row for each function of the library.

A row is the module (or class) that holds the function, its name there, and what is called in its place inside a
world, with that world as the first argument. Rules for this file:

1. A row answers or refuses. Behaviour of more than a few lines lives in the world's parts.
2. What has no virtual counterpart is refused with advice: what to do instead.
"""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import logging
import multiprocessing.process
import os
import random
import select
import selectors
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from sim.world import files, names, sockets
from sim.world.disguise import RealSocket
from sim.world.polling import SimPoll

if TYPE_CHECKING:
    from sim.world.world import World

Row: TypeAlias = "tuple[Any, str, Callable[..., Any]]"

_BLOCKING = "It would really block the event loop: await asyncio.sleep() instead."
_THREAD = "A thread's timing is nobody's choice, so a run with one cannot be repeated: await a coroutine instead."
_WAIT = "Only another thread could end that wait, and there is none: await an asyncio primitive instead."
_PROCESS = "A real process cannot live on a virtual clock: replace it by something the scenario provides."
_SELECTOR = "A process of a world has one event loop, on a simulated selector: use the loop that runs."
_ALARM = "Real timers do not know virtual time: use asyncio.timeout() or loop.call_later()."


def refusal(name: str, advice: str) -> Callable[..., Any]:
    """An answer that refuses."""

    def refuse(world: World, *_args: Any, **_kwargs: Any) -> Any:
        raise world.refuse(f"{name} was called inside a world. {advice}")

    return refuse


def functions() -> Iterator[Row]:
    """Functions of modules: found wherever a module holds a reference to them."""
    for table in (_clocks, _randomness, _threads_and_processes, _network, files.functions, _signals):
        yield from table()


def _clocks() -> Iterator[Row]:
    yield time, "time", lambda w: w.clock.wall()
    yield time, "time_ns", lambda w: round(w.clock.wall() * 1e9)
    for name in ("monotonic", "perf_counter", "process_time", "thread_time"):
        yield time, name, lambda w: w.clock.monotonic()
        yield time, f"{name}_ns", lambda w: round(w.clock.monotonic() * 1e9)
    yield time, "clock_gettime", lambda w, clock: _clock_of(w, clock)
    yield time, "clock_gettime_ns", lambda w, clock: round(_clock_of(w, clock) * 1e9)
    for name, position in (("gmtime", 0), ("localtime", 0), ("ctime", 0), ("strftime", 1)):
        yield time, name, _optional_seconds(getattr(time, name), position)
    yield time, "sleep", refusal("time.sleep()", _BLOCKING)


def _clock_of(world: World, clock: int) -> float:
    return world.clock.wall() if clock == time.CLOCK_REALTIME else world.clock.monotonic()


_strftime, _localtime = time.strftime, time.localtime


def _optional_seconds(original: Callable[..., Any], position: int) -> Callable[..., Any]:
    """For gmtime, localtime, ctime and strftime: they read the clock only if no time was given."""

    def inside(world: World, *args: Any) -> Any:
        if len(args) > position and args[position] is not None:
            return original(*args)
        if original is _strftime:
            return original(args[0], _localtime(world.clock.wall()))
        return original(world.clock.wall())

    return inside


def _randomness() -> Iterator[Row]:
    for name in sorted(random.__all__):
        bound = getattr(random, name)
        if getattr(bound, "__self__", None) is random._inst:
            yield random, name, lambda w, *a, _n=name, **k: getattr(w.entropy.random, _n)(*a, **k)
    yield os, "urandom", lambda w, size: w.entropy.urandom(size)
    yield os, "getrandom", lambda w, size, flags=0: w.entropy.urandom(size)
    yield ssl, "RAND_bytes", lambda w, n: w.entropy.urandom(n)
    yield uuid, "getnode", lambda w: _NODE
    yield uuid, "uuid1", _uuid1


_NODE = 0x01_00_00_00_00_01
"""The machine's hardware address, with the bit that says it is none (RFC 9562, 6.10)."""


def _uuid1(world: World, node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
    """RFC 9562, 5.1, from the world's clock and entropy alone."""
    ticks = round(world.clock.wall() * 1e7) + 0x01B21DD213814000
    node = _NODE if node is None else node
    clock_seq = world.entropy.system.getrandbits(14) if clock_seq is None else clock_seq
    fields = (ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF, clock_seq >> 8 & 0x3F, clock_seq & 0xFF)
    return uuid.UUID(fields=(*fields, node), version=1)


def _threads_and_processes() -> Iterator[Row]:
    for name in ("start_new_thread", "start_new", "start_joinable_thread"):
        yield _thread, name, refusal("threading.Thread.start()", _THREAD)
    yield threading, "main_thread", lambda _w: threading.current_thread()
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen", "_exit", "abort"):
        yield os, name, refusal(f"os.{name}()", _PROCESS)
    for name in ("execv", "execve", "execl", "execle", "execlp", "execlpe", "execvp", "execvpe"):
        yield os, name, refusal(f"os.{name}()", _PROCESS)
    yield subprocess, "_fork_exec", refusal("subprocess", _PROCESS)
    yield os, "getpid", lambda w: w.pid
    yield os, "kill", lambda w, pid, number: w.kill(pid, number)
    yield os, "killpg", refusal("os.killpg()", _PROCESS)
    yield warnings, "_warn_unawaited_coroutine", _never_awaited
    for name in ("warn", "warn_explicit"):
        yield warnings, name, _not_warned


def _not_warned(_world: World, *_args: Any, **_kwargs: Any) -> None:
    """A server behaves the same whatever filters, and whatever warnings before, the process around it has."""


_warn_unawaited: Callable[[Any], None] = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]


def _never_awaited(world: World, coroutine: Any) -> None:
    """Coroutines that nobody awaited are the program's fault, but not if its world was broken off before it could."""
    if not world.closed:
        _warn_unawaited(coroutine)


def _network() -> Iterator[Row]:
    yield socket, "socketpair", lambda w, *_a, **_k: sockets.socketpair(w)
    yield socket, "gethostname", lambda _w: names.HOSTNAME
    for name in ("getaddrinfo", "gethostbyname", "getfqdn", "getnameinfo"):
        yield socket, name, getattr(names, name)
    for name in ("gethostbyaddr", "gethostbyname_ex"):
        yield socket, name, refusal(f"socket.{name}()", "A world has no name server.")
    yield asyncio.events, "new_event_loop", refusal("asyncio.new_event_loop()", _SELECTOR)
    yield select, "poll", SimPoll
    for name in ("select", "epoll", "devpoll", "kqueue"):
        yield select, name, refusal(f"select.{name}()", _SELECTOR)


def _signals() -> Iterator[Row]:
    yield signal, "signal", lambda w, signalnum, handler: w.own_process().set_signal_handler(signalnum, handler)
    yield signal, "getsignal", lambda w, signalnum: w.own_process().signal_handlers.get(signalnum, signal.SIG_DFL)
    yield signal, "raise_signal", lambda w, signalnum: w.own_process().kill(signalnum)
    yield _thread, "interrupt_main", lambda w, signum=signal.SIGINT: w.own_process().kill(signum)
    yield signal, "set_wakeup_fd", lambda _w, fd, **_k: -1
    yield signal, "siginterrupt", lambda _w, signalnum, flag: None
    for name in ("alarm", "setitimer"):
        yield signal, name, refusal(f"signal.{name}()", _ALARM)
    for name in ("pause", "sigwait", "sigwaitinfo", "sigtimedwait"):
        yield signal, name, refusal(f"signal.{name}()", _BLOCKING)


def methods() -> Iterator[Row]:
    """Methods of classes: replaced in the class."""
    yield logging.Logger, "callHandlers", lambda w, _logger, record: w.log(record)
    yield random.Random, "seed", _seed
    yield RealSocket, "__init__", refusal("a real socket", "Make it with socket.socket(), without a subclass.")
    yield selectors._BaseSelectorImpl, "__init__", refusal("a selector's constructor", _SELECTOR)
    yield ssl.SSLContext, "wrap_bio", _without_tickets
    yield threading.Condition, "wait", _wait
    yield subprocess.Popen, "__init__", refusal("subprocess.Popen()", _PROCESS)
    yield multiprocessing.process.BaseProcess, "start", refusal("multiprocessing.Process.start()", _PROCESS)
    try:
        from anyio._backends._asyncio import AsyncIOBackend
    except ImportError:  # not installed, or a version that has it elsewhere: then its threads are refused
        return
    yield AsyncIOBackend, "run_sync_in_worker_thread", _at_once


async def _at_once(
    _world: World, _cls: Any, func: Callable[..., Any], args: tuple[Any, ...], *_options: Any, **_more: Any
) -> Any:
    """What Starlette runs plain functions with: as `run_in_executor`, at once, in a copy of the context."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(None, lambda: context.run(func, *args))


_real_wrap_bio = ssl.SSLContext.wrap_bio


def _without_tickets(_world: World, self: ssl.SSLContext, *args: Any, **kwargs: Any) -> ssl.SSLObject:
    """A server sends no session tickets: OpenSSL puts a random number of random length into each."""
    if self.protocol is ssl.PROTOCOL_TLS_SERVER:
        self.num_tickets = 0
        self.options |= ssl.OP_NO_TICKET
    return _real_wrap_bio(self, *args, **kwargs)


_real_wait = threading.Condition.wait


def _wait(world: World, self: threading.Condition, timeout: float | None = None) -> bool:
    """Looking is allowed, waiting is not."""
    if timeout is not None and timeout <= 0:
        return _real_wait(self, timeout)
    raise world.refuse(f"threading.Condition.wait() was called inside a world. {_WAIT}")


_real_seed = random.Random.seed


def _seed(world: World, self: random.Random, a: Any = None, version: int = 2) -> None:
    """`Random()` without a seed asks the operating system; in a world, the world is the operating system."""
    _real_seed(self, world.entropy.system.getrandbits(256) if a is None else a, version)
