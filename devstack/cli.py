"""The command ``hybridge``: what is about all three programs together."""

from __future__ import annotations

import sys

import click

from devstack.doctor.cli import doctor
from devstack.token_cli import token
from hybridge.program.command_line import run_command
from hybridge.program.completion import completion
from hybridge.program.help_screen import Group

PROGRAM = "hybridge"


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  hybridge demo
  hybridge token create --connection-string "$ORDERS_SEND" --expires-in 15m""",
)
@click.version_option(package_name="hybridge", prog_name=PROGRAM)
def cli() -> None:
    """Azure Relay Hybrid Connections on your own machine.

    The programs themselves are hybridge-relay, hcm and app-client.
    """


@cli.command(
    epilog="""\b
Example:
  hybridge demo --once"""
)
@click.option("--once", is_flag=True, help="End after the last step, also on a terminal.")
def demo(*, once: bool) -> int:
    """Send real SQL through relay, agent and client, and show every step.

    Starts a PostgreSQL and the three programs on free loopback ports. On a terminal they stay up
    for you to try, until Ctrl-C; nothing is left behind.
    """
    # Not before it is wanted: it needs what only the extra `demo` installs.
    from devstack.demo import run

    return run(sys.stdout, stays=not once and sys.stdin.isatty() and sys.stdout.isatty())


cli.add_command(token)
cli.add_command(doctor)
cli.add_command(completion)


def main() -> None:
    """Run ``hybridge``."""
    run_command(cli, PROGRAM)
