"""The reference server: what the specifications say, and no more, in one sitting's reading.

HTTP/1.1 on h11, WebSocket on wsproto, asyncio streams below. It is the executable specification that other servers
are compared with; it is meant to be right and to be read, not to be fast. Read `server`, then `http`, then `websocket`.

Where specifications leave a choice it takes the plainest: one connection, one *pump* that reads bytes as they come (so
that pings are answered and disconnects are seen whatever the application does) and stops while what it has read is
not asked for; a client that has sent FIN is gone; an application that ends early is cut off visibly; `send()` behind a
disconnect raises an `OSError`.
"""

from models.reference.server import Reference, serve, subject

__all__ = ["Reference", "serve", "subject"]
