"""The flags that the agent and the client have in common, each with its environment twin."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from hybridge.program.command_line import FILE, OnePerLine
from hybridge.program.connection_strings import GivenConnectionStrings
from hybridge.program.host_port import TARGET
from hybridge.protocol.errors import InvalidSetting

Function = TypeVar("Function", bound=Callable[..., Any])


def config_option(prefix: str) -> Callable[[Function], Function]:
    """``--config``."""
    return click.option(
        "--config",
        type=FILE,
        metavar="FILE",
        envvar=f"{prefix}_CONFIG",
        help="Several hybrid connections, JSON or YAML.",
    )


def connection_string_options(
    prefix: str, *, claim: str, is_repeatable: bool = True
) -> Callable[[Function], Function]:
    """``--connection-string`` and ``--connection-string-file``.

    Both are taken several times in any case: the command says better what is wrong with that.
    """
    repeat = "; repeatable" if is_repeatable else ""

    def decorate(function: Function) -> Function:
        function = click.option(
            "--connection-string-file",
            "connection_string_files",
            type=OnePerLine(FILE),
            multiple=True,
            metavar="FILE",
            envvar=f"{prefix}_CONNECTION_STRING_FILE",
            help="The same from a file.",
        )(function)
        return click.option(
            "--connection-string",
            "connection_strings",
            type=OnePerLine(),
            multiple=True,
            metavar="TEXT",
            envvar=f"{prefix}_CONNECTION_STRING",
            help=f"From a rule with {claim}{repeat}.",
        )(function)

    return decorate


def relay_options(prefix: str, *, goes_on: bool = True) -> Callable[[Function], Function]:
    """How the relay is reached, and how the program tells about itself.

    Args:
        prefix: How the environment twins begin.
        goes_on: Whether the command goes on until it is stopped; else there is nothing to tell:
            no ``--ready-file``, ``--log-format`` and ``--verbose``.
    """

    def decorate(function: Function) -> Function:
        options = [
            click.option(
                "--ca",
                type=FILE,
                metavar="FILE",
                envvar=f"{prefix}_CA",
                help="Trust these certificates too, PEM.",
            ),
            click.option(
                "--connect-to",
                type=TARGET,
                metavar="HOST:PORT",
                envvar=f"{prefix}_CONNECT_TO",
                help="Dial this, not the namespace's host.",
            ),
            click.option(
                "--proxy",
                metavar="URL|@FILE",
                envvar=f"{prefix}_PROXY",
                help="HTTP or SOCKS5; none for none.  [HTTPS_PROXY]",
            ),
            click.option(
                "--ready-file",
                type=FILE,
                metavar="FILE",
                envvar=f"{prefix}_READY_FILE",
                help="Exists while all is connected or listening.",
            ),
            click.option(
                "--log-format",
                type=click.Choice(["text", "json"]),
                default="text",
                envvar=f"{prefix}_LOG_FORMAT",
                help="Log lines.  [text]",
            ),
            click.option(
                "--verbose",
                is_flag=True,
                envvar=f"{prefix}_VERBOSE",
                help="Log every step.",
            ),
        ]
        for option in reversed(options if goes_on else options[:-3]):
            function = option(function)
        return function

    return decorate


def given_connection_strings(context: click.Context) -> GivenConnectionStrings:
    """Take what was given on the command line; if nothing was, what the environment has."""
    texts, files = "connection_strings", "connection_string_files"
    sources = {name: context.get_parameter_source(name) for name in (texts, files)}
    if ParameterSource.COMMANDLINE in sources.values():
        taken = {name for name in sources if sources[name] is ParameterSource.COMMANDLINE}
    else:
        taken = set(sources)
    return GivenConnectionStrings(
        texts=tuple(context.params[texts]) if texts in taken else (),
        files=tuple(context.params[files]) if files in taken else (),
    )


def check_ca(path: Path | None) -> None:
    """Check that a file of certificates can be used, before anything depends on it.

    Raises:
        InvalidSetting: It cannot be read or holds no certificate.
    """
    if path is None:
        return
    hint = "write the relay's own with: hybridge-relay ca > ca.pem"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise InvalidSetting("--ca", f"{path} holds no PEM certificate", hint=hint) from None
    except OSError as error:
        raise InvalidSetting("--ca", f"{path}: {error.strerror}", hint=hint) from None
