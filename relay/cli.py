"""The command ``hybridge-relay``."""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING, Any

import click

from hybridge.program import early_signals, logs
from hybridge.program.command_line import FILE, OnePerLine, run_command
from hybridge.program.completion import completion
from hybridge.program.help_screen import Group
from hybridge.program.host_port import PORT, format_host_port, parse_host_port
from hybridge.protocol.errors import InvalidSetting, RelayError, Unreachable
from relay.diagnostics import azure_fields
from relay.settings import LOCALHOST, RelaySettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.configuration import Sources

PROGRAM = "hybridge-relay"

HEALTH_TIMEOUT_SECONDS = 3.0
"""How long ``healthcheck`` waits for an answer."""


class _HybridConnectionType(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4
    name = "name=host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, endpoint = str(value).partition("=")
        if not equals or not name:
            raise InvalidSetting(
                "--hybrid-connection",
                f"{value!r} is not NAME=HOST:PORT",
                hint="write orders-db=db.corp.local:5432",
            )
        parse_host_port(endpoint, setting="--hybrid-connection", lowest_port=1)
        return name, endpoint


def _option(*names: str, **attributes: Any) -> Callable[[Callable[..., object]], Any]:
    """An option with its environment twin: ``--admin-port`` is ``HYBRIDGE_RELAY_ADMIN_PORT``."""
    twin = "HYBRIDGE_RELAY_" + names[0].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=twin, **attributes)


_config = _option("--config", type=FILE, metavar="FILE", help="Namespaces, JSON or YAML.")
_hybrid_connections = _option(
    "--hybrid-connection",
    "hybrid_connections",
    type=OnePerLine(_HybridConnectionType()),
    multiple=True,
    metavar="NAME=HOST:PORT",
    help="One more; repeatable.",
)
_port = _option("--port", type=PORT, metavar="PORT", help="TLS port, 0: any free.  [8443]")
_admin_host = _option(
    "--admin-host", metavar="ADDR", help="/health and /metrics.  [both loopbacks]"
)
_admin_port = _option("--admin-port", type=PORT, metavar="PORT", help="And its port.  [5300]")
_state_dir = _option(
    "--state-dir",
    type=FILE,
    metavar="DIR",
    help="CA and keys.  [$XDG_STATE_HOME/hybridge]",
)


@click.group(
    cls=Group,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    # The example stands here for want of a line below the commands.
    help=f"""\b
Serve Azure Relay hybrid connections.
Example: {PROGRAM} --hybrid-connection orders-db=localhost:5432""",
    short_help="Serve Azure Relay hybrid connections.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@_config
@_hybrid_connections
@_option("--host", metavar="ADDR", help="Where to listen.  [both loopbacks]")
@_port
@_admin_host
@_admin_port
@_state_dir
@_option(
    "--share-dir",
    type=FILE,
    metavar="DIR",
    help="Put ca.pem and connection strings here.",
)
@_option("--log-format", type=click.Choice(["text", "json"]), help="Log lines.  [text]")
@_option("--verbose", is_flag=True, default=None, help="Log every message.")
@click.version_option(package_name="hybridge", prog_name=PROGRAM)
@click.pass_context
def cli(context: click.Context, /, **_: object) -> int | None:
    """Serve Azure Relay hybrid connections."""
    if context.invoked_subcommand is None:
        return _run(_sources(context))
    early_signals.restore()
    return None


@cli.command("connection-strings")
@_config
@_hybrid_connections
@_port
@_state_dir
@click.option("--json", "as_json", is_flag=True, help="As one JSON list.")
@click.pass_context
def connection_strings(context: click.Context, /, *, as_json: bool, **_: object) -> None:
    """Print the connection string of every rule.

    One line each: NAMESPACE/HYBRID-CONNECTION RULE CONNECTION-STRING, with "-" for the namespace's
    own rules. The relay need not run; keys that are missing are made and kept.
    """
    from relay import configuration, share

    loaded = configuration.load(_sources(context), now=time.time())
    if loaded.settings.port == 0:
        raise InvalidSetting(
            "--port", "0 is not the port that clients dial", hint="give the port that it printed"
        )
    strings = list(share.rule_strings(loaded.namespaces, loaded.settings.port))
    if as_json:
        rows = [
            {
                "namespace": each.namespace,
                "hybridConnection": each.hybrid_connection,
                "rule": each.rule.name,
                "rights": list(each.rule.claims.names),
                "connectionString": each.serialize(),
            }
            for each in strings
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for each in strings:
        path = each.hybrid_connection or "-"
        click.echo(f"{each.namespace}/{path} {each.rule.name} {each.serialize()}")


@cli.command("ca", short_help="Print the certificate that clients must trust.")
@_config
@_state_dir
@click.pass_context
def ca(context: click.Context, /, **_: object) -> None:
    """Print the certificate that clients must trust (PEM); made if missing."""
    from hybridge.transport.development_ca import DevelopmentCa

    state_dir = _settings(_sources(context)).state_dir
    click.echo(DevelopmentCa.load_or_create(state_dir).pem, nl=False)


@cli.command("healthcheck", short_help="Ask a running relay whether it is healthy.")
@_config
@_admin_host
@_admin_port
@click.pass_context
def healthcheck(context: click.Context, /, **_: object) -> None:
    """Ask a running relay whether it is healthy; exit code 0 or 1."""
    settings = _settings(_sources(context))
    if settings.admin_port == 0:
        raise InvalidSetting("--admin-port", "0 is no port to ask", hint="give the one it printed")
    hosts = {LOCALHOST: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound
    host = hosts.get(settings.admin_host.lower(), settings.admin_host)
    where = format_host_port(host, settings.admin_port)
    # Not urllib: it would ask a proxy.
    connection = http.client.HTTPConnection(
        host, settings.admin_port, timeout=HEALTH_TIMEOUT_SECONDS
    )
    try:
        connection.request("GET", "/health")
        with connection.getresponse() as response:
            body = response.read(1_024).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        problem = getattr(error, "strerror", None) or error
        raise Unreachable(
            f"no answer from http://{where}/health: {problem}",
            hint="start the relay, or give the --admin-port that it printed",
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        raise RelayError(f"{where} answers {response.status} {body}", hint="see the relay's log")
    click.echo(body)


cli.add_command(completion)


def main() -> None:
    """Run ``hybridge-relay``."""
    run_command(cli, PROGRAM)


# --- From flags to a running relay ---------------------------------------------------------------


def _given(context: click.Context) -> dict[str, Any]:
    """What command line and environment say, a subcommand's options before those in front of it."""
    outer = {} if context.parent is None else _given(context.parent)
    return outer | {
        name: value for name, value in context.params.items() if value not in (None, ())
    }


def _sources(context: click.Context) -> Sources:
    # Loads pydantic, which --help and --version do not need.
    from relay.configuration import Sources

    given = _given(context)
    flags = {name: given[name] for name in given if name in RelaySettings.__dataclass_fields__}
    return Sources(
        config=given.get("config"),
        hybrid_connections=given.get("hybrid_connections", ()),
        flags=flags,
    )


def _settings(sources: Sources) -> RelaySettings:
    from relay import configuration

    return configuration.load_settings(sources)


def _run(sources: Sources) -> int:
    from relay import configuration

    loaded = configuration.load(sources, now=time.time())
    settings = loaded.settings
    logs.configure(
        program=PROGRAM,
        log_format=settings.log_format,
        verbose=settings.verbose,
        json_fields=azure_fields,
    )
    # The event loop, TLS and the web server: only a relay that runs needs them.
    from relay.running import run_relay

    return run_relay(sources, loaded)
