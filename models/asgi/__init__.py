"""The ASGI state machine as tables, and the recorder that watches every application through them."""

from models.asgi.events import (
    AppCalled,
    AppCancelled,
    AppRaised,
    AppReturned,
    AsgiIllegal,
    AsgiReceive,
    AsgiReceiveCancelled,
    AsgiReceived,
    AsgiReceiveFailed,
    AsgiSend,
    AsgiSendFailed,
    AsgiSent,
)
from models.asgi.machine import MACHINES, Machine
from models.asgi.recorder import Recorder

__all__ = [
    "MACHINES",
    "AppCalled",
    "AppCancelled",
    "AppRaised",
    "AppReturned",
    "AsgiIllegal",
    "AsgiReceive",
    "AsgiReceiveCancelled",
    "AsgiReceiveFailed",
    "AsgiReceived",
    "AsgiSend",
    "AsgiSendFailed",
    "AsgiSent",
    "Machine",
    "Recorder",
]
