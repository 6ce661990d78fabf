"""How a world and what is its own are written: scripts, processes, loops, sockets, connections, what is under way.

Rules for this file:

1. The walk begins at the scripts, in the order of their start, and goes on to processes and listeners. From a
   connection's endpoint it goes to the other side, to the socket, and so to what reads there. So nearly everything of
   a conversation is met by way of its client, whoever came first.
2. A connection's name, ports and descriptors are counters. What is under way has no order but that of its lanes, and is
   written with the distances to the moments between which it may arrive.
3. Timers are written in the order of their moments. Those of one moment fire in the order of their setting, or as the
   loop's heap lies. That order counts only if they do fire, so at first it is left out. `World.tied` tells when some run
   has come to such a moment; from then on (`Types.ordered`) it is written, the heap as it lies.
4. Sockets that a loop looks at have no order while at most one of them can be ready at a time. If one has something to
   read while nobody reads it, their order is written too.
5. Clock, trace, choices and agenda are not objects of a state. What they add is written here.
6. With faults: what is left of them, the cancellations to come and on what tasks they may fall, how far the wall clock has
   jumped, and each connection that a script made, because a fault may fall on one that the script has let go of.
"""

from __future__ import annotations

import selectors
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sim.world.agenda import Agenda
from sim.world.boundary import Dispatcher
from sim.world.choices import Choices
from sim.world.clock import Clock
from sim.world.description import Description
from sim.world.endpoint import Channel, Endpoint
from sim.world.entropy import Entropy
from sim.world.fiber import Fiber
from sim.world.fingerprint.plain import Heads, head
from sim.world.host import Host
from sim.world.kernel import Kernel, Listener
from sim.world.lanes import Alarm, Mailbox, Post
from sim.world.loop import SimLoop, TickingLoop
from sim.world.process import Process
from sim.world.selector import SimSelector
from sim.world.sockets import SimSocket
from sim.world.trace import Trace
from sim.world.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sim.world.faults import Striker
    from sim.world.fingerprint.past import Past
    from sim.world.fingerprint.types import Handler
    from sim.world.fingerprint.walk import Walk


_FIBER, _DONE, _ALARM, _POST, _ENDPOINT, _LISTENER, _SOCKET, _PROCESS, _LOOP, _HOST = map(
    head, ("fiber", "done", "alarm", "post", "endpoint", "listener", "socket", "process", "loop", "host")
)
_when = itemgetter(0)
_MAILBOX, _CHANNEL = Heads(b"B"), Heads(b"C")


def write_world(walk: Walk, world: World, scripts: Sequence[Fiber], past: Past) -> None:
    """Write a world's roots, with `scripts` in this order."""
    agenda, listeners = world.agenda, world.kernel.listeners
    limit = walk.distance(world.settling_until) if world.settling_until is not None else None
    parts: list[Any] = [world.phase, limit, min(world.clock.now - agenda._last_event, 1e6), len(scripts)]
    for fiber in scripts:
        drawn = fiber.entropy and fiber.entropy.drawn()
        parts += (fiber.alike or fiber.name, past.of_script(fiber.name), drawn, fiber)
    parts += (len(world.processes), *world.processes, world.shared_entropy.drawn(), len(listeners))
    for listener in sorted(listeners.items()) if len(listeners) > 1 else listeners.items():
        parts += listener
    walk.put(*parts)
    if world.striker is not None:
        _write_faults(walk, world, world.striker)
    alarms = sorted((a for a in agenda._alarms if a[2].callback is not None), key=lambda a: a[:2])
    walk.put(*_timers(walk, [(walk.distance(when), alarm, True) for when, _, alarm in alarms]))
    walk.unordered([lane for lane in agenda.lanes if lane.segments])
    walk.unordered([fiber for fiber in world.fibers if not fiber.done])
    for process in world.processes:
        if not process.exited:
            walk.unordered([task for task in process.loop.tasks if not task.done()])


def _write_faults(walk: Walk, world: World, striker: Striker) -> None:
    """Rule 6."""
    walk.put(striker.on, *striker.left.items(), int(world.clock.jumped), len(striker.armed))
    for armed in striker.armed:
        walk.put(armed.task, armed.after, armed.counting)
    walk.unordered([(name, task) for name, task in striker.tasks.items() if not task.done()])
    walk.unordered(
        [
            (c, c.stalled, c.name in striker.lost, c._endpoint.inbound.in_flight, c._endpoint.outbound.in_flight)
            for c in world.connections
            if c.stalled or not c.closed
        ]
    )


# Scripts and native threads.


def _fiber(walk: Walk, fiber: Fiber) -> Iterable[Any]:
    if fiber.done:
        walk.write(_DONE)
        return (fiber.daemon, fiber.result, fiber.on_done, fiber._ended)
    walk.write(_FIBER)
    return (fiber.daemon, fiber.result, fiber.on_done, fiber._ended, fiber._coroutine, fiber._waits_for)


def _alarm(walk: Walk, alarm: Alarm) -> Iterable[Any]:
    walk.write(_ALARM)
    return (alarm.callback,)


def _mailbox(walk: Walk, mailbox: Mailbox) -> Iterable[Any]:
    walk.write(_MAILBOX[len(mailbox.segments)])
    return mailbox.segments


def _post(walk: Walk, post: Post) -> Iterable[Any]:
    walk.write(_POST)
    return (post.label, *_interval(walk, post), post.callback)


def _interval(walk: Walk, item: Any) -> tuple[complex, complex]:
    now = walk.world.clock.now
    return walk.distance(max(item.earliest, now)), walk.distance(max(item.latest, now))


# Connections.


def _endpoint(walk: Walk, endpoint: Endpoint) -> Iterable[Any]:
    if not endpoint.scripted and endpoint.name != "pair":
        walk.owner = endpoint
    walk.write(_ENDPOINT)
    return (
        endpoint.local,
        endpoint.remote,
        endpoint.scripted,
        endpoint.connected,
        endpoint.eof,
        endpoint.error,
        endpoint.reset,
        endpoint.closed,
        endpoint.read_shut,
        endpoint.fin_queued,
        endpoint.fin_sent,
        endpoint.fin_arrived,
        endpoint.receive_size,
        endpoint.send_size,
        len(endpoint.receive_buffer),
        *endpoint.receive_buffer,
        len(endpoint.send_buffer),
        *[part for part, _ in endpoint.send_buffer],
        endpoint.outbound,
        endpoint.outbound.target,
        endpoint.inbound,
        walk.sockets.get(id(endpoint)),
        endpoint.watcher,
    )


def _channel(walk: Walk, channel: Channel) -> Iterable[Any]:
    walk.write(_CHANNEL[len(channel.segments)])
    parts: list[Any] = [channel.source]
    for segment in channel.segments:
        parts += (segment.flag, segment.data, segment.label, *_interval(walk, segment))
    return parts


def _listener(walk: Walk, listener: Listener) -> Iterable[Any]:
    walk.write(_LISTENER)
    return (
        listener.address,
        listener.label,
        listener.backlog,
        listener.receive_size,
        listener.send_size,
        len(listener.queue),
        *listener.queue,
        len(listener.turned_away),
        *listener.turned_away,
        listener.watcher,
        *[sock for sock in walk.world.descriptors if sock._file.listener is listener],
        None,
    )


def _socket(walk: Walk, sock: SimSocket) -> Iterable[Any]:
    file = sock._file
    key = None
    if sock.owner is not None and sock._fd != -1:
        key = sock.owner.loop.selector._keys.get(sock._fd)
    walk.write(_SOCKET)
    return (
        sock._fd == -1,
        sock.family,
        file.address,
        file.endpoint,
        file.listener,
        file.told,
        sock._timeout,
        file.descriptors,
        file.nonblocking,
        key and key.events,
        key and key.data,
        len(file.options),
        *(part for item in sorted(file.options.items()) for part in item),
    )


# Processes and loops.


def _process(walk: Walk, process: Process) -> Iterable[Any]:
    walk.write(_PROCESS)
    handlers = [(int(number), process.signal_handlers[number]) for number in sorted(process.signal_handlers)]
    return (
        process.name,
        process.parked,
        process.exited,
        process.exit_reason,
        process.killed_by,
        process.stopping,
        process.main,
        *(() if process.exited else (process.loop, len(handlers), *(part for item in handlers for part in item))),
    )


def _loop(walk: Walk, loop: SimLoop) -> Iterable[Any]:
    private: Any = loop
    walk.write(_LOOP)
    parts: list[Any] = [len(private._ready), *private._ready, private._exception_handler, private._task_factory]
    chosen = {id(handle) for handle in loop.timers}
    timers = [(handle._when, handle, id(handle) in chosen) for handle in private._scheduled if not handle.cancelled()]
    if walk.types.ordered and len({when for when, _, _ in timers}) < len(timers):
        for handle in private._scheduled:
            parts += (handle._when, None if handle.cancelled() else handle, id(handle) in chosen)
    else:
        timers.sort(key=_when)
        parts += _timers(walk, timers)
    selector = loop.selector
    if any(_unread(sock, selector) for sock in walk.world.descriptors if sock._file.endpoint is not None):
        socks = sorted(selector._socks.values(), key=lambda sock: sock.woken)
        parts += (len(socks), *socks)
    if private._asyncgens:
        walk.unordered(list(private._asyncgens))
    return parts


def _timers(walk: Walk, timers: list[tuple[Any, Any, bool]]) -> list[Any]:
    """Timers, sorted by their moments: those of one moment in order only where that counts (rule 3)."""
    if len(timers) < 2 or walk.types.ordered:
        return [len(timers), *chain(*timers)]
    parts: list[Any] = [len(timers)]
    for when, group in groupby(timers, key=_when):
        due = list(group)
        if len(due) == 1:
            parts += due[0]
        else:
            parts += (when, sum(chosen for _, _, chosen in due))
            walk.unordered([timer for _, timer, _ in due])
    return parts


def _unread(sock: SimSocket, selector: SimSelector) -> bool:
    """Whether a socket has something for a program that does not look (rule 4)."""
    key = selector._keys.get(sock._fd)
    return (
        (key is None or not key.events & selectors.EVENT_READ)
        and sock.owner is not None
        and sock.owner.loop is selector.loop
        and bool(sock.ready(selectors.EVENT_READ))
    )


def _host(walk: Walk, _host: Host) -> Iterable[Any]:
    walk.write(_HOST)
    return ()


def _nothing(_value: Any) -> str:
    return "the world's"


HANDLERS: dict[type, Handler] = {
    Fiber: _fiber,
    Alarm: _alarm,
    Mailbox: _mailbox,
    Post: _post,
    Endpoint: _endpoint,
    Channel: _channel,
    Listener: _listener,
    SimSocket: _socket,
    Process: _process,
    SimLoop: _loop,
    TickingLoop: _loop,
    Host: _host,
}
CONSTANTS: dict[type, Callable[[Any], str]] = {
    **dict.fromkeys((World, Trace, Choices, Agenda, Clock, Kernel, Entropy, SimSelector, Description), _nothing),
    Dispatcher: lambda value: f"dispatcher {value.__module__}.{value.__qualname__}",
}
"""What is written as a value. What a dispatcher stands for (a clock, entropy) is the world's own, and is written there."""
