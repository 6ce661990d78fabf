"""The command `asgi-sim`: list, check, replay.

Standard output has the result and nothing else; progress and messages go to standard error. Exit codes are part of the
interface, and a user's mistake is one message, never a traceback: see `sim.exits`.

Nothing but click is imported before a command runs: help comes at once, and an interrupt always finds its handler.
"""

from __future__ import annotations

import os
import sys

import click

from sim.cli.check import ARRIVALS, GRANULARITIES, REDUCTIONS, SEARCHES, check
from sim.cli.output import print_page
from sim.cli.replay import replay
from sim.exits import EPILOG, Cli

__all__ = ["ARRIVALS", "GRANULARITIES", "REDUCTIONS", "SEARCHES", "cli", "main"]


@click.group("asgi-sim", cls=Cli, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="asgi-sim", prog_name="asgi-sim")
@click.option("--debug", is_flag=True, envvar="ASGI_SIM_DEBUG", help="Print tracebacks. Also: ASGI_SIM_DEBUG=1.")
def cli(debug: bool) -> None:  # noqa: ARG001 - Cli.invoke reads it
    """Run every order of arrival on a real or modelled ASGI server, and judge each.

    \b
    Examples:
      asgi-sim list
      asgi-sim check unsolicited_pong
      asgi-sim check hello --server "uvicorn[h11,wsproto]" --server hypercorn
      asgi-sim replay sim1.AbCd...
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


@cli.command("list")
def list_() -> int:
    """List the scenarios with what they claim, and the servers."""
    from sim.show.listing import listing

    text, code = listing()
    print_page(lambda _: [text])
    return code


cli.add_command(check)
cli.add_command(replay)


main: click.Command = cli
"""The entry point."""
