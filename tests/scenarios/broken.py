"""A server that is broken on purpose."""

from __future__ import annotations

import attrs

from models.reference import serve
from models.serving import ADDRESS, recorded, start


@attrs.frozen
class Broken:
    """The reference server with something wrong between it and the application."""

    wrong: object
    requirement: str = "broken"
    kind: str = "model"
    versions: dict = attrs.field(factory=dict)

    def serve(self, world, application):
        app = recorded(world, application)

        async def between(scope, receive, send):
            if scope["type"] == "lifespan" and not getattr(self.wrong, "lifespan", False):
                await app(scope, receive, send)
            else:
                await self.wrong(app, scope, receive, send)

        return start(world, "broken", lambda: serve(between, *ADDRESS))
