"""The cookbook's Python examples, against real servers behind a relay, an agent and a client."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import runpy
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg import sql

from devstack.postgres import PostgresServer
from hybridge.protocol.connection_string import parse, serialize
from hybridge.transport.development_ca import DevelopmentCa
from tests.support import on_premises
from tests.support.chain import DEADLINE_SECONDS, RelayProcess
from tests.support.debian import find, require
from tests.support.recipes import EXAMPLES, Service, Site, endpoints, running_site
from tests.support.until import until

PASSWORD = "shop-cookbook"
NAMES_WITH_TLS = ["api.corp.local", "mail.corp.local", "mysql.corp.local"]
RELAYED = "orders-api"
"""The hybrid connection that an example listens at by itself."""

SMTP_PORT = 587
UNPRIVILEGED_SMTP_PORT = 1587
"""Where this user may not listen on 587."""

Run = Callable[..., str]


@dataclass(kw_only=True)
class Company:
    """What is on-premises."""

    authority: Path
    """PEM file of the company's own authority."""
    postgres: PostgresServer
    inbox: list[Message] = field(default_factory=list)
    api_hosts: list[str] = field(default_factory=list)
    prelogins: list[bytes] = field(default_factory=list)
    smtp_port: int = SMTP_PORT
    folder: Path
    """Where the client has a Unix socket for PostgreSQL."""
    site: Site


def _may_listen(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except PermissionError:
            return False
        except OSError:
            pass  # Taken on that address, and not on ours.
    return True


def _server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def _fill(server: PostgresServer) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        role = sql.SQL("create role shop login password {}").format(sql.Literal(PASSWORD))
        connection.execute(role)
        connection.execute("create database shop owner shop")
    with psycopg.connect(server.dsn, dbname="shop") as connection:
        connection.execute("create table orders (id int, article text)")
        connection.execute("insert into orders values (1, 'pallet of bolts')")
        connection.execute("grant select on orders to shop")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    authority = DevelopmentCa.load_or_create(folder / "corp-ca")
    certificate = authority.certificate_for(NAMES_WITH_TLS)
    context = _server_context(certificate)
    inbox: list[Message] = []
    api_hosts: list[str] = []
    prelogins: list[bytes] = []
    smtp_port = SMTP_PORT if _may_listen(SMTP_PORT) else UNPRIVILEGED_SMTP_PORT
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        _fill(postgres)
        servers: dict[str, AbstractContextManager[int]] = {
            "orders-db": nullcontext(postgres.port),
            "sql": on_premises.sql_server_prelogin(prelogins),
            "mail": on_premises.mail_server(context, inbox),
            "api": on_premises.orders_api(None, api_hosts),
            "api-tls": on_premises.orders_api(context, api_hosts),
        }
        if find("mariadbd"):
            servers["mysql"] = on_premises.mariadb(
                folder, certificate=certificate, password=PASSWORD
            )
        if find("redis-server"):
            servers["cache"] = on_premises.redis(folder)
        known = endpoints()
        known["mail"] = known["mail"][0], smtp_port
        services = [
            Service(
                hybrid_connection=name,
                host=known[name][0],
                port=known[name][1],
                target_port=stack.enter_context(server),
                unix_socket=folder / ".s.PGSQL.5432" if name == "orders-db" else None,
            )
            for name, server in servers.items()
        ]
        site = stack.enter_context(running_site(folder, services, further=[RELAYED]))
        yield Company(
            authority=authority.path,
            postgres=postgres,
            inbox=inbox,
            api_hosts=api_hosts,
            prelogins=prelogins,
            smtp_port=smtp_port,
            folder=folder,
            site=site,
        )


@pytest.fixture
def run(
    company: Company, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    def run_example(example: str, **variables: str) -> str:
        return company.site.run(example, monkeypatch, capsys, **variables)

    return run_example


def test_psycopg_reads_from_the_servers_own_name_and_port(company: Company, run: Run) -> None:
    # libpq resolves names by itself; this is its way to be told what a hosts file would tell it.
    address = company.site.addresses["db.corp.local"]

    output = run("postgresql/with_psycopg.py", PGPASSWORD=PASSWORD, PGHOSTADDR=address)

    assert output == "1 pallet of bolts\n"


def test_psycopg_reads_from_a_unix_socket_with_its_folder_as_the_host(company: Company) -> None:
    socket_is_there = f"host={company.folder} port=5432 dbname=shop user=shop connect_timeout=20"

    with psycopg.connect(socket_is_there, password=PASSWORD) as connection:
        row = connection.execute("select id, article from orders").fetchone()

    assert row == (1, "pallet of bolts")


def test_asyncpg_reads_through_a_pool(run: Run) -> None:
    output = run("postgresql/with_asyncpg.py", PGPASSWORD=PASSWORD)

    assert output == "1 pallet of bolts\n"


def test_the_workflows_tests_pass_as_the_workflow_runs_them(
    company: Company, tmp_path: Path
) -> None:
    workflow = yaml.safe_load((EXAMPLES / "github_actions/tests.yml").read_text(encoding="utf-8"))
    plugin = workflow["jobs"]["plugin"]
    (command,) = [step["run"] for step in plugin["steps"] if "pytest " in step.get("run", "")][1:]
    assert command == "python -m pytest -n 2 test_orders.py"
    shutil.copy(EXAMPLES / "github_actions/test_orders.py", tmp_path)
    server = company.postgres
    variables = {**plugin["env"], "PGPASSWORD": server.password}
    variables |= {"PGDATABASE": server.database, "ON_PREMISES": f"127.0.0.1:{server.port}"}

    # In one process: the plugin's own tests have it run in several.
    done = subprocess.run(
        [sys.executable, *command.replace("-n 2", "-n 0 -q").split()[1:]],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "2 passed" in done.stdout, done.stdout


def test_pymysql_reads_from_mysqls_own_port_and_name_with_tls(company: Company, run: Run) -> None:
    require("mariadbd")

    authority = str(company.authority)
    output = run("mysql/with_pymysql.py", MYSQL_PWD=PASSWORD, CORP_CA=authority)

    assert output == "1 pallet of bolts\n"


def test_sql_servers_first_packet_passes_on_its_own_port(company: Company) -> None:
    address = company.site.addresses["sql.corp.local"], 1433

    with socket.create_connection(address, timeout=DEADLINE_SECONDS) as client:
        client.sendall(on_premises.PRELOGIN)
        answer = client.recv(4_096)

    assert company.prelogins == [on_premises.PRELOGIN]
    assert answer == on_premises.PRELOGIN_ANSWER


def test_redis_counts_and_publishes(run: Run) -> None:
    require("redis-server")

    output = run("redis/with_redis_py.py")

    assert output == "orders so far: 1\nshipped: pallet of bolts\n"


def test_a_mail_goes_with_starttls_and_the_mail_servers_own_name(
    company: Company, run: Run
) -> None:
    output = run("smtp/send.py", CORP_CA=str(company.authority), SMTP_PORT=str(company.smtp_port))

    (mail,) = company.inbox
    assert output == "sent\n"
    assert mail["Subject"] == "Order 1"
    assert mail.get_payload() == "One pallet of bolts, please.\r\n"


def test_an_https_api_sees_its_own_name(company: Company, run: Run) -> None:
    output = run("http_api/with_requests.py", CORP_CA=str(company.authority))

    assert output == "pallet of bolts\n"
    assert company.api_hosts[-1] == "api.corp.local:9443"


def test_a_plain_http_api_sees_its_own_name(company: Company, run: Run) -> None:
    output = run("http_api/with_urllib.py")

    assert output == "pallet of bolts\n"
    assert company.api_hosts[-1] == "api.corp.local:8080"


async def test_an_api_listens_at_the_relay_itself(
    company: Company,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    relay = company.site.relay
    monkeypatch.setenv("CA", str(relay.ca))
    monkeypatch.setenv("LISTEN", _on_this_machine(relay, "defaultListener"))
    send = _on_this_machine(relay, "defaultSender")
    listen = runpy.run_path(str(EXAMPLES / "http_api/listener.py"))["main"]

    listener = asyncio.get_running_loop().create_task(listen())
    try:
        await until(lambda: "online" in capsys.readouterr().out)
        output = await asyncio.to_thread(run, "http_api/sender.py", SEND=send)
    finally:
        listener.cancel()
        await asyncio.wait([listener])

    assert output == "conveyor belt\n"


def _on_this_machine(relay: RelayProcess, rule: str) -> str:
    """A connection string of the hybrid connection without agent, by a name that resolves."""
    given = parse(relay.connection_string(rule, RELAYED))
    return serialize(dataclasses.replace(given, host="localhost"))
