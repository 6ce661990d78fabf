"""The kernel: pure TCP state, delivered by hand."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sim.world.kernel import ANY, EPHEMERAL_PORTS, MSS, RECEIVE_BUFFER, SEND_BUFFER, Flag, Kernel

if TYPE_CHECKING:
    from sim.world.kernel import Address, Channel, Endpoint, Listener, Segment

SERVER = ("127.0.0.1", 80)
CLIENT = ("127.0.0.1", 50_000)


class Net:
    """A kernel whose segments are delivered in the order in which they were sent, unless a test does otherwise."""

    def __init__(self) -> None:
        self.flights: deque[Channel] = deque()
        self.kernel = Kernel(self._fly)

    def _fly(self, channel: Channel, _segment: Segment) -> None:
        self.flights.append(channel)

    def deliver(self) -> Segment:
        """Deliver the oldest segment; those that an RST took back are passed over."""
        channel = self.flights.popleft()
        while not channel.segments:
            channel = self.flights.popleft()
        return channel.deliver()

    def settle(self) -> list[Flag]:
        """Deliver everything; what was delivered."""
        delivered = []
        while any(channel.segments for channel in self.flights):
            delivered.append(self.deliver().flag)
        self.flights.clear()
        return delivered

    def listen(self, address: Address = SERVER, backlog: int = 10) -> Listener:
        return self.kernel.listen(self.kernel.bind(address), backlog)

    def connected(self) -> tuple[Endpoint, Endpoint]:
        """A client's and a server's side."""
        listener = self.listen()
        near = self.kernel.connect(CLIENT, SERVER, "client")
        self.settle()
        return near, listener.accept()


@pytest.fixture
def net() -> Net:
    return Net()


def read_all(endpoint: Endpoint) -> bytes:
    parts = []
    while endpoint.unread:
        parts.append(endpoint.receive(65_536))
    return b"".join(parts)


# Connecting.


def test_nothing_is_delivered_by_itself(net: Net) -> None:
    listener = net.listen()
    near = net.kernel.connect(CLIENT, SERVER)
    assert not near.connected
    assert not listener.readable
    assert [s.flag for s in near.outbound.segments] == [Flag.SYN]


def test_both_sides_are_connected_when_the_syn_arrives(net: Net) -> None:
    near, far = net.connected()
    assert near.connected
    assert far.connected
    assert (near.local, near.remote) == (CLIENT, SERVER) == (far.remote, far.local)
    assert near.name == far.name == "connection 1"


def test_the_server_side_takes_the_listeners_label_and_sizes(net: Net) -> None:
    listener = net.listen()
    listener.label, listener.receive_size, listener.send_size = "server", 1, 2
    near = net.kernel.connect(CLIENT, SERVER)
    assert near.outbound.target.place == "127.0.0.1:80"
    net.settle()
    far = listener.accept()
    assert (far.place, far.receive_size, far.send_size) == ("server", 1, 2)
    assert near.place == "127.0.0.1:50000"


def test_a_listener_at_any_address_is_found(net: Net) -> None:
    listener = net.listen((ANY, 80))
    net.kernel.connect(CLIENT, SERVER)
    net.settle()
    assert listener.accept().local == SERVER


def test_nobody_listens(net: Net) -> None:
    near = net.kernel.connect(CLIENT, SERVER)
    assert net.settle() == [Flag.SYN, Flag.RST]
    assert not near.connected
    assert near.readable
    assert near.writable
    with pytest.raises(ConnectionRefusedError):
        near.receive(1)
    assert near.receive(1) == b""
    with pytest.raises(BrokenPipeError):
        near.send(b"x")


def test_whoever_gives_up_before_the_syn_arrives_is_not_accepted(net: Net) -> None:
    listener = net.listen()
    near = net.kernel.connect(CLIENT, SERVER)
    near.close()
    assert net.settle() == [Flag.SYN]
    assert not listener.queue


def test_a_connecting_endpoint_is_neither_readable_nor_writable(net: Net) -> None:
    near = net.kernel.connect(CLIENT, SERVER)
    assert not near.readable
    assert not near.writable
    for call in (lambda: near.send(b"x"), lambda: near.receive(1)):
        with pytest.raises(BlockingIOError):
            call()
    with pytest.raises(OSError, match=str(errno.ENOTCONN)):
        near.shut_write()


def test_one_more_than_the_backlog_may_wait(net: Net) -> None:
    listener = net.listen(backlog=1)
    clients = [net.kernel.connect(("127.0.0.1", 50_000 + i), SERVER) for i in range(4)]
    net.settle()
    assert [c.connected for c in clients] == [True, True, False, False]
    assert not any(c.reset for c in clients)
    assert listener.accept().remote == clients[0].local
    assert not clients[2].connected, "it has to send its SYN again"
    net.settle()
    assert [c.connected for c in clients] == [True, True, True, False]


def test_whoever_was_turned_away_is_refused_if_the_listener_closes(net: Net) -> None:
    listener = net.listen(backlog=0)
    clients = [net.kernel.connect(("127.0.0.1", 50_000 + i), SERVER) for i in range(2)]
    net.settle()
    listener.close()
    net.settle()
    assert [c.error for c in clients] == [errno.ECONNRESET, errno.ECONNREFUSED]


def test_whoever_gave_up_after_being_turned_away_is_forgotten(net: Net) -> None:
    listener = net.listen(backlog=0)
    clients = [net.kernel.connect(("127.0.0.1", 50_000 + i), SERVER) for i in range(2)]
    net.settle()
    clients[1].close()
    listener.accept()
    assert net.settle() == []


def test_a_closed_listener_resets_who_waits(net: Net) -> None:
    listener = net.listen()
    near = net.kernel.connect(CLIENT, SERVER)
    net.settle()
    listener.close()
    net.settle()
    with pytest.raises(ConnectionResetError):
        near.receive(1)


def test_accept_would_block(net: Net) -> None:
    with pytest.raises(BlockingIOError):
        net.listen().accept()


# Addresses.


def test_an_address_is_bound_once(net: Net) -> None:
    net.kernel.bind(SERVER)
    with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
        net.kernel.bind(SERVER)
    net.kernel.bind(("127.0.0.2", 80))


def test_any_address_conflicts_with_each(net: Net) -> None:
    net.kernel.bind(SERVER)
    with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
        net.kernel.bind((ANY, 80))
    net.kernel.bind((ANY, 81))
    with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
        net.kernel.bind(("127.0.0.1", 81))


def test_port_0_is_any_free_one(net: Net) -> None:
    first = EPHEMERAL_PORTS[0]
    net.kernel.bind(("127.0.0.1", first + 1))
    assert [net.kernel.bind(("127.0.0.1", 0))[1] for _ in range(2)] == [first, first + 2]


def test_ephemeral_ports_come_round_again_and_can_run_out(net: Net) -> None:
    ports = [net.kernel.ephemeral("127.0.0.1")[1] for _ in range(len(EPHEMERAL_PORTS) + 1)]
    assert ports[0] == ports[-1]
    assert sorted(ports[:-1]) == list(EPHEMERAL_PORTS)
    net.kernel.bound = {("127.0.0.1", port) for port in EPHEMERAL_PORTS}
    with pytest.raises(OSError, match=str(errno.EADDRNOTAVAIL)):
        net.kernel.bind(("127.0.0.1", 0))


# Bytes.


def test_one_send_is_one_segment_up_to_the_mss(net: Net) -> None:
    near, far = net.connected()
    assert near.send(b"a" * (MSS + 1), "label") == MSS + 1
    near.send(b"b")
    assert [len(s.data) for s in near.outbound.segments] == [MSS, 1, 1]
    assert [str(s) for s in near.outbound.segments] == ["label", "label", "1 bytes"]
    assert near.outbound.in_flight == MSS + 2
    net.settle()
    assert near.outbound.in_flight == 0
    assert read_all(far) == b"a" * (MSS + 1) + b"b"


def test_receive_joins_and_splits_what_arrived(net: Net) -> None:
    near, far = net.connected()
    near.send(b"abc")
    near.send(b"def")
    net.settle()
    assert far.receive(4, peek=True) == b"abcd"
    assert far.receive(4) == b"abcd"
    assert far.receive(4) == b"ef"
    with pytest.raises(BlockingIOError):
        far.receive(4)


def test_nothing_and_no_room_for_it(net: Net) -> None:
    near, far = net.connected()
    assert near.send(b"") == 0
    assert far.receive(0) == b""
    assert not near.outbound.segments


def test_the_window_closes_and_opens(net: Net) -> None:
    near, far = net.connected()
    far.receive_size = 100
    assert near.send(b"x" * 250) == 250
    net.settle()
    assert (far.unread, near.queued, len(near.outbound.segments)) == (100, 150, 0)
    assert far.receive(60) == b"x" * 60
    assert (near.queued, near.outbound.in_flight) == (90, 60)
    assert far.unread + near.outbound.in_flight == 100, "a delivery must never overflow"
    net.settle()
    far.receive(1_000)
    net.settle()
    assert far.receive(1_000) == b"x" * 90


def test_the_send_buffer_takes_a_part_and_then_nothing(net: Net) -> None:
    near, far = net.connected()
    near.send_size = 100
    assert near.send(b"x" * 70) == 70
    assert not near.writable, "two thirds are taken"
    assert near.room == 30
    assert near.send(b"y" * 70) == 30
    with pytest.raises(BlockingIOError):
        near.send(b"z")
    net.settle()
    assert near.writable, "what was delivered is acknowledged"
    assert read_all(far) == b"x" * 70 + b"y" * 30


def test_who_could_not_write_is_told_when_he_can(net: Net) -> None:
    near, far = net.connected()
    near.send_size, far.receive_size = 120, 100
    told: list[bool] = []
    near.watcher = lambda: told.append(near.writable)
    near.send(b"x" * 120)
    net.deliver()
    assert told == [True], "100 of 120 bytes arrived"
    told.clear()
    far.receive(50)
    assert told == [True]


def test_a_writer_without_a_reader_is_bounded_by_the_buffers(net: Net) -> None:
    near, far = net.connected()
    written, calls = 0, 0
    chunk = bytes(10_000)
    for _ in range(2_000):
        try:
            written += near.send(chunk)
            calls += 1
        except BlockingIOError:
            break
        net.settle()
    assert far.unread == RECEIVE_BUFFER
    assert written == SEND_BUFFER + RECEIVE_BUFFER
    assert calls == -(-written // len(chunk)) < 2_000
    total = 0
    while total < written:
        total += len(far.receive(65_536))
        net.settle()
    assert total == written
    assert near.send(chunk) == len(chunk)


# Ends.


def test_fin_comes_behind_the_data(net: Net) -> None:
    near, far = net.connected()
    near.send(b"last")
    near.shut_write()
    assert net.settle() == [Flag.DATA, Flag.FIN]
    assert far.receive(10) == b"last"
    assert far.receive(10) == b""
    assert far.receive(10) == b""


def test_fin_waits_for_the_window(net: Net) -> None:
    near, far = net.connected()
    far.receive_size = 10
    near.send(b"x" * 15)
    near.close()
    assert net.settle() == [Flag.DATA]
    assert not far.eof
    far.receive(10)
    assert net.settle() == [Flag.DATA, Flag.FIN]


def test_half_close(net: Net) -> None:
    near, far = net.connected()
    near.shut_write()
    near.shut_write()
    assert net.settle() == [Flag.FIN]
    with pytest.raises(BrokenPipeError):
        near.send(b"x")
    far.send(b"still")
    net.settle()
    assert near.receive(10) == b"still"


def test_close_with_unread_bytes_resets(net: Net) -> None:
    near, far = net.connected()
    near.send(b"unread")
    far.send(b"before")
    net.settle()
    far.close()
    assert net.settle() == [Flag.RST]
    assert near.receive(3) == b"bef"
    assert near.receive(10) == b"ore"
    with pytest.raises(ConnectionResetError):
        near.receive(10)
    assert near.receive(10) == b""
    with pytest.raises(BrokenPipeError):
        near.send(b"x")


def test_after_a_reset_writing_gives_the_error_first(net: Net) -> None:
    near, far = net.connected()
    far.abort()
    net.settle()
    with pytest.raises(ConnectionResetError):
        near.send(b"x")
    with pytest.raises(BrokenPipeError):
        near.send(b"x")
    assert near.receive(1) == b""


def test_data_to_a_closed_endpoint_is_answered_with_a_reset_once(net: Net) -> None:
    near, far = net.connected()
    far.close()
    net.settle()
    near.send(b"1")
    near.send(b"2")
    assert net.settle() == [Flag.DATA, Flag.DATA, Flag.RST]
    assert near.receive(1) == b"", "FIN had come before"
    with pytest.raises(BrokenPipeError):
        near.send(b"x")


def test_a_reset_takes_back_what_is_in_flight_and_unsent(net: Net) -> None:
    near, far = net.connected()
    far.receive_size = 10
    near.send(b"x" * 30)
    far.abort()
    (rst,) = far.outbound.segments
    assert rst.flag is Flag.RST
    far.outbound.deliver()
    assert not near.outbound.segments
    assert (near.queued, near.outbound.in_flight) == (0, 0)


def test_a_reset_never_overtakes(net: Net) -> None:
    near, far = net.connected()
    near.send(b"before")
    near.abort()
    assert [s.flag for s in near.outbound.segments] == [Flag.DATA, Flag.RST]
    net.settle()
    assert far.receive(10) == b"before"


def test_shut_down_for_reading(net: Net) -> None:
    near, far = net.connected()
    near.shut_read()
    assert near.readable
    assert near.receive(1) == b""
    far.send(b"late")
    net.settle()
    assert near.receive(10) == b"late", "Linux hands it out all the same"
    assert near.receive(10) == b""


@pytest.mark.parametrize("write_first", [True, False])
def test_shut_down_both_ways_data_is_answered_with_a_reset(net: Net, write_first: bool) -> None:
    near, far = net.connected()
    for shut in (near.shut_write, near.shut_read) if write_first else (near.shut_read, near.shut_write):
        shut()
    net.settle()
    far.send(b"late")
    assert net.settle() == [Flag.DATA, Flag.RST]
    with pytest.raises(ConnectionResetError):
        near.receive(1)
    assert near.receive(1) == b""
    with pytest.raises(BrokenPipeError):
        far.send(b"x")


def test_both_fins_end_it(net: Net) -> None:
    near, far = net.connected()
    near.shut_write()
    far.shut_write()
    assert near.established
    assert far.established
    net.settle()
    assert not near.established
    assert not far.established
    with pytest.raises(OSError, match=str(errno.ENOTCONN)):
        near.shut_write()


def test_closing_twice_sends_one_fin(net: Net) -> None:
    near, _ = net.connected()
    near.close()
    near.close()
    near.abort()
    assert net.settle() == [Flag.FIN]


def test_close_after_a_reset_sends_nothing(net: Net) -> None:
    near, far = net.connected()
    near.send(b"unread")
    far.abort()
    net.settle()
    near.close()
    assert net.settle() == []


def test_a_pair_is_connected(net: Net) -> None:
    one, two = net.kernel.pair()
    one.send(b"x")
    assert two.inbound is one.outbound
    one.outbound.deliver()
    assert two.receive(1) == b"x"


# Any order.


class Conversation(RuleBasedStateMachine):
    """Two endpoints, written to, read from and delivered in any order, against two byte streams."""

    @initialize(window=st.integers(1, 40), buffer=st.integers(1, 60))
    def begin(self, window: int, buffer: int) -> None:
        self.net = Net()
        self.ends = self.net.connected()
        self.sent = [b"", b""]
        self.read = [b"", b""]
        self.shut = [False, False]
        self.counter = 0
        for end in self.ends:
            end.receive_size, end.send_size = window, buffer

    @rule(side=st.integers(0, 1), size=st.integers(1, 80))
    def write(self, side: int, size: int) -> None:
        data = bytes((self.counter + i) % 256 for i in range(size))
        room = self.ends[side].room
        try:
            taken = self.ends[side].send(data)
        except BlockingIOError:
            assert room == 0
            assert not self.shut[side]
            return
        except BrokenPipeError:
            assert self.shut[side]
            return
        assert taken == min(size, room) > 0
        self.counter += taken
        self.sent[side] += data[:taken]

    @rule(side=st.integers(0, 1), size=st.integers(1, 80))
    def receive(self, side: int, size: int) -> None:
        end = self.ends[side]
        readable = end.readable
        try:
            data = end.receive(size)
        except BlockingIOError:
            assert not readable
            return
        assert readable
        self.read[side] += data
        if not data:
            assert self.shut[1 - side]
            assert self.read[side] == self.sent[1 - side]

    @rule(side=st.integers(0, 1))
    def shut_write(self, side: int) -> None:
        if self.ends[side].established:
            self.ends[side].shut_write()
            self.shut[side] = True

    @precondition(lambda self: any(e.outbound.segments for e in self.ends))
    @rule(side=st.integers(0, 1))
    def deliver(self, side: int) -> None:
        channel = self.ends[side].outbound
        (channel if channel.segments else self.ends[1 - side].outbound).deliver()

    @invariant()
    def nothing_is_lost_or_reordered(self) -> None:
        if not hasattr(self, "ends"):
            return
        for side, end in enumerate(self.ends):
            peer = self.ends[1 - side]
            flying = b"".join(s.data for s in peer.outbound.segments)
            queued = b"".join(data for data, _ in peer.send_buffer)
            assert self.read[side] + b"".join(end.receive_buffer) + flying + queued == self.sent[1 - side]
            assert end.unread == sum(map(len, end.receive_buffer))
            assert peer.queued == len(queued)
            assert peer.outbound.in_flight == len(flying)
            assert end.unread + len(flying) <= end.receive_size
            assert len(flying) + len(queued) <= peer.send_size
            if queued:
                assert end.unread + len(flying) == end.receive_size, "the window is open and nobody sends"

    def teardown(self) -> None:
        if not hasattr(self, "ends"):
            return
        for side in (0, 1):
            if self.ends[side].established:
                self.ends[side].shut_write()
        while any(end.queued or end.unread or end.outbound.segments for end in self.ends):
            for side, end in enumerate(self.ends):
                if end.outbound.segments:
                    end.outbound.deliver()
                self.read[side] += read_all(end)
        assert self.read == self.sent[::-1]
        assert all(end.receive(1) == b"" for end in self.ends)


TestConversation = Conversation.TestCase
