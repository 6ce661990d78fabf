"""Errors of the engine. Each message says what happened, the likeliest cause and the next step."""

from __future__ import annotations


class SimError(Exception):
    """Base class of every error that the engine raises on purpose.

    `exit_code` is what the command line ends with: 2 for a mistake in the question that was asked,
    3 for an answer that cannot be trusted.
    """

    exit_code = 3


class UsageError(SimError):
    """The question cannot be asked like that: an unknown name, a bad blob, an application that fails to import."""

    exit_code = 2


class NotInstalled(UsageError):  # noqa: N818 - what is the matter
    """A subject is not here, or not in the version that is meant; it can be had in an environment of its own."""


class StartupError(UsageError):
    """The server under test ended, or could not start, before it was listening."""


class Divergence(SimError):  # noqa: N818 - DESIGN's word, and what it is
    """The same schedule gave two different runs: something in the world is not under the world's control."""


class BoundaryError(SimError, RuntimeError):
    """Code inside a world reached for something real: a thread, a subprocess, a socket, real sleep.

    It is a `RuntimeError` too, so that code under test which catches broadly meets it as any program would;
    the world remembers it all the same and ends the run with it.
    """


class Stuck(SimError):  # noqa: N818 - a state, as much as an error
    """A run that cannot end: nothing can happen any more, or the code under test never gives control back.

    It becomes a discovery against the built-in invariant *progress*, with the schedule that leads to it.
    """
