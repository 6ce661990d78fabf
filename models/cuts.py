"""Where a client's segment is worth cutting: boundaries that parsers keep state across, for the fault `cut`.

An HTTP/1.1 head is cut inside its request line, between CR and LF, behind each line and in the middle of the empty one.
WebSocket frames (RFC 6455, 5.2) are cut behind the first byte, inside and behind length and mask, between frames, and
inside each UTF-8 sequence of several bytes. Anything else, and any body, is cut behind its first byte, in the middle and
before its last.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_REQUEST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n")


def interesting(data: bytes) -> list[int]:
    """The places, each between 1 and `len(data) - 1`, in order."""
    is_head = _REQUEST_LINE.match(data) is not None
    found = set(_in_head(data) if is_head else _in_frames(data)) or set(_in_body(0, len(data)))
    return sorted(place for place in found if 0 < place < len(data))


def _in_head(data: bytes) -> Iterator[int]:
    end = data.find(b"\r\n\r\n")
    end = len(data) if end < 0 else end + 4
    method = data.index(b" ")
    target = data.index(b" ", method + 1)
    yield from (1, method, method + 1, (method + 1 + target) // 2, target, target + 1)
    for match in re.finditer(rb"\r\n", data[:end]):
        yield from (match.start(), match.start() + 1, match.end())
    yield from _in_body(end, len(data))


def _in_body(begin: int, end: int) -> Iterator[int]:
    if begin < end:
        yield from (begin, begin + 1, (begin + end) // 2, end - 1)


def _in_frames(data: bytes) -> Iterator[int]:
    """Of whole masked frames, one behind the other; nothing if the bytes are something else."""
    places: list[int] = []
    at = 0
    while at < len(data):
        if len(data) - at < 6 or data[at] & 0x70 or not data[at + 1] & 0x80:
            return
        short = data[at + 1] & 0x7F
        extended = {126: 2, 127: 8}.get(short, 0)
        mask_at = at + 2 + extended
        size = int.from_bytes(data[at + 2 : mask_at], "big") if extended else short
        begin = mask_at + 4
        if begin + size > len(data):
            return
        mask = data[mask_at:begin]
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[begin : begin + size]))
        places += [at, at + 1, at + 2, mask_at, mask_at + 2, begin, *_in_body(begin, begin + size)]
        places += [begin + i for i, byte in enumerate(payload) if data[at] & 0x0F == 1 and byte & 0xC0 == 0x80]
        at = begin + size
    yield from places
