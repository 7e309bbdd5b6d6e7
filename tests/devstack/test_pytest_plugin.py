"""The pytest plugin as its users see it: projects of their own, run by a pytest of their own."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from devstack import pytest_plugin
from devstack.testing import background_relay

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = """
import asyncio, socket, threading
import pytest
import hybridge
from tests.support.echo import echo_target

@pytest.fixture(scope="session")
def target():
    with echo_target() as address:
        yield address

@pytest.fixture(scope="session")
def left():
    sockets = []
    yield sockets
    for each in sockets:
        each.close()

def connected(made):
    return socket.create_connection(made.local_address, timeout=30)

class Listening:
    #A listener in a loop of its own, which accepts nobody and answers nothing.

    def __init__(self, made):
        self.made, self.online, self.over = made, threading.Event(), asyncio.Event()
        self.thread = threading.Thread(target=asyncio.run, args=(self.main(),))
        self.thread.start()
        assert self.online.wait(30)

    async def never(self, request):
        await self.over.wait()
        await request.respond(200, b"")

    async def main(self):
        self.loop, made = asyncio.get_running_loop(), self.made
        async with hybridge.Listener(
            made.listen_connection_string, ca=made.ca, connect_to=made.connect_to,
            request_handler=self.never,
        ) as listener:
            await listener.wait_online()
            self.online.set()
            await self.over.wait()

    def close(self):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join()
"""


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    # Each run forgets what it has imported, and cryptography does not bear being imported twice.
    with background_relay():
        pass


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini(
        """
        [pytest]
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
        filterwarnings = error
        hybridge_leak_seconds = 0.2
        """
    )
    pytester.makeconftest(CONFTEST)
    return pytester


def run(project: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    imports = "from conftest import Listening, connected\nimport pytest, socket\n"
    project.makepyfile(imports + textwrap.dedent(test))
    return project.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


# --- good use ------------------------------------------------------------------------------------

GOOD = """
import asyncio

def test_blocking(hybrid_connection, target):
    orders = hybrid_connection(target)
    with connected(orders) as sock:
        sock.sendall(b"select 1")
        assert sock.recv(100)

async def test_async(hybrid_connection, target):
    orders = hybrid_connection(target)
    reader, writer = await asyncio.open_connection(orders.host, orders.port)
    writer.write(b"select 1")
    assert await reader.readexactly(8) == b"select 1"
    with orders.refuse(503):
        with pytest.raises(ConnectionResetError):
            refused, its_writer = await asyncio.open_connection(orders.host, orders.port)
            try:
                await refused.read(1)
            finally:
                its_writer.close()
    writer.close()

@pytest.mark.parametrize("name", ["orders", "stock/eu"])
def test_parametrised(hybrid_connection, target, name, hybridge_namespace):
    assert hybrid_connection(target, name=name).name == name
    assert hybridge_namespace.name.startswith("t-parametrised-")

@pytest.fixture(scope="module")
def shared(hybridge_relay, target):
    with hybridge_relay.namespace() as namespace:
        yield namespace.hybrid_connection(target)

@pytest.mark.parametrize("number", [1, 2])
def test_shared(shared, number):
    with connected(shared) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
"""


def test_fixtures_serve_blocking_and_async_tests_and_fixtures_of_any_scope(
    project: pytest.Pytester,
) -> None:
    run(project, GOOD).assert_outcomes(passed=6)


def test_the_relays_settings_can_be_overridden(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        from devstack.testing import RelaySettings

        @pytest.fixture(scope="session")
        def hybridge_relay_settings():
            return RelaySettings(max_connections=1)

        def test_it(hybrid_connection, target):
            orders = hybrid_connection(target)  # Its agent is the one connection.
            with pytest.raises(ConnectionResetError), connected(orders) as sock:
                sock.recv(1)
        """,
    )

    result.assert_outcomes(passed=1)


def test_it_is_safe_with_xdist(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # Others take a second to import.
    project.makeini("[pytest]\nfilterwarnings = error")
    project.makepyfile(
        """
        import pytest
        from conftest import connected

        @pytest.mark.parametrize("number", range(6))
        def test_it(hybrid_connection, hybridge_namespace, hybridge_relay, target, number):
            orders = hybrid_connection(target, name="orders")
            with connected(orders) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
            hybridge_relay.restart()
        """
    )
    plugins = ("-p", "xdist", "-p", "devstack.pytest_plugin")
    project.runpytest_subprocess(*plugins, "-n", "2").assert_outcomes(passed=6)


# --- the guide ------------------------------------------------------------------------------------


def _examples() -> tuple[str, list[str]]:
    """The guide's Python: all tests and fixtures in one, and the scripts."""
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    tests = [block for block in blocks if "def test_" in block or "@pytest.fixture" in block]
    return "\n".join(tests), [block for block in blocks if block not in tests]


def test_the_tests_in_the_guide_pass(project: pytest.Pytester) -> None:
    tests, _ = _examples()

    run(project, tests).assert_outcomes(
        passed=tests.count("def test_") + 2
    )  # One runs three times.


def test_the_scripts_in_the_guide_print_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    _, scripts = _examples()
    assert len(scripts) == 2

    for script in scripts:
        exec(compile(script, "docs/testing.md", "exec"), {"__name__": "__main__"})  # noqa: S102
        assert capsys.readouterr().out == "b'hello'\n"


def test_every_option_is_in_the_guide() -> None:
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `(--hybridge-[\w-]+)`", page, re.M) == [
        f"--{name.replace('_', '-')}" for name, _, _ in pytest_plugin.OPTIONS
    ]


# --- what is left open ---------------------------------------------------------------------------


def test_a_connection_that_the_application_left_open_fails_the_test_and_is_named(
    project: pytest.Pytester,
) -> None:
    result = run(
        project,
        """
        def test_it(hybrid_connection, target, left):
            sock = connected(hybrid_connection(target, name="orders"))
            left.append(sock)
            sock.sendall(b"select 1")
            assert sock.recv(100)
            print("local port", sock.getsockname()[1])

        def test_next(hybrid_connection, target):
            with connected(hybrid_connection(target)) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
        """,
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.re_match_lines(
        [
            r".*1 thing is left open in namespace t-it-\w+:",
            r".*connection through 'orders' from 127\.0\.0\.1:\d+: neither end has closed it; "
            r"open for \d\.\d s, 8 bytes sent, 8 received",
            r".*hint: close what the test opened before it ends; .*hybridge_leak_seconds",
        ]
    )
    shown = result.stdout.str()
    [port] = re.findall(r"local port (\d+)", shown)
    assert f"from 127.0.0.1:{port}:" in shown


def test_a_connection_that_the_target_left_open_is_told_apart(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        def test_it(hybrid_connection, left):
            with socket.create_server(("127.0.0.1", 0)) as server:
                orders = hybrid_connection(server.getsockname())
                with connected(orders) as sock:
                    far, _ = server.accept()
                    left.append(far)
                    sock.sendall(b"x")
                    assert far.recv(1) == b"x"
        """,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*the application has closed it, the target has not; *"])


def test_a_listener_a_waiting_sender_and_a_request_that_were_left_are_named(
    project: pytest.Pytester,
) -> None:
    result = run(
        project,
        """
        import ssl

        def test_it(hybrid_connection, left):
            orders = hybrid_connection(
                name="orders", client=True, requires_client_authorization=False
            )
            left.append(Listening(orders))
            waiting = connected(orders)
            left.append(waiting)
            sock = socket.create_connection(orders.connect_to)
            tls = ssl.create_default_context(cafile=orders.ca).wrap_socket(
                sock, server_hostname="localhost"
            )
            left.append(tls)
            head = f"GET /orders/7?a=b HTTP/1.1\\r\\nHost: {orders.namespace}\\r\\n\\r\\n"
            tls.sendall(head.encode())
            waiting.settimeout(0.2)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
        """,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.re_match_lines(
        [
            r".*3 things are left open in namespace t-it-\w+:",
            r".*sender of 'orders' from 127\.0\.0\.1:\d+: no listener has accepted it",
            r".*request GET /orders/7: not over yet",
            r".*listener of 'orders': 1 online besides the agent",
        ]
    )


LEAKING = """
        def test_it(hybrid_connection, target, left):
            left.append(connected(hybrid_connection(target)))
            assert left[0].sendall(b"x") is None and left[0].recv(1)
"""


def test_a_test_that_fails_by_itself_fails_once_and_shows_what_it_left(
    project: pytest.Pytester,
) -> None:
    result = run(project, f"{LEAKING}            assert not 'reached'")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*hybridge teardown*", "1 thing is left open*"])


def test_leaks_may_be_warned_of(project: pytest.Pytester) -> None:
    result = run(project, LEAKING, "--hybridge-leaks=warn", "-W", "default")

    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*HybridgeLeak: 1 thing is left open in namespace t-it-*"])


def test_leaks_may_be_let_pass(project: pytest.Pytester) -> None:
    run(project, LEAKING, "-o", "hybridge_leaks=off").assert_outcomes(passed=1)


def test_a_connection_that_is_just_closing_is_no_leak(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        import threading

        def test_it(hybrid_connection, left):
            with socket.create_server(("127.0.0.1", 0)) as server:
                with connected(hybrid_connection(server.getsockname())) as sock:
                    far, _ = server.accept()
                    sock.sendall(b"x")
                    assert far.recv(1) == b"x"
            threading.Timer(0.3, far.close).start()
        """,
        "--hybridge-leak-seconds=20",
    )

    result.assert_outcomes(passed=1)


# --- used wrongly, and options -------------------------------------------------------------------


def test_a_wrong_target_in_a_fixture_is_two_lines_that_help(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        @pytest.fixture
        def orders(hybrid_connection):
            return hybrid_connection('db.corp.local')

        def test_it(orders):
            pass
        """,
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            ">*return hybrid_connection('db.corp.local')",
            "E  *InvalidSetting: target: 'db.corp.local' has no port",
            "E  *hint: write HOST:PORT, such as db.corp.local:5432 or [[]::1]:5432",
        ]
    )
    result.stdout.no_fnmatch_line("*host_port.py*")


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--hybridge-leaks=maybe", "hybridge_leaks: 'maybe' is none of fail, warn, off"),
        ("--hybridge-leak-seconds=-1", "hybridge_leak_seconds: '-1' is not a number of seconds"),
        ("--hybridge-leak-seconds=x", "hybridge_leak_seconds: 'x' is not a number of seconds"),
        ("--hybridge-log-level=loud", "hybridge_log_level: 'loud' is none of debug, info, *"),
    ],
)
def test_an_option_that_is_none_ends_the_session_before_it_begins(
    project: pytest.Pytester, option: str, problem: str
) -> None:
    result = run(project, "", option)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {problem}"])


def test_logs_of_all_three_are_shown_from_the_level_that_is_asked_for(
    project: pytest.Pytester, caplog: pytest.LogCaptureFixture
) -> None:
    test = """
        def test_it(hybrid_connection, target):
            hybrid_connection(target)
            assert not "reached"
    """
    for name in ("relay", "hcm_agent", "app_client"):
        # It runs in this process, where an earlier test may have left another level.
        caplog.set_level(logging.NOTSET, logger=name)

    silent, talking = run(project, test), run(project, test, "--hybridge-log-level=info")

    silent.stdout.no_fnmatch_line("*INFO*hcm_agent.status*online")
    talking.stdout.fnmatch_lines(["*INFO*relay.diagnostics*a listener is online"])
    talking.stdout.fnmatch_lines(["*INFO*hcm_agent.status*online"])


def test_the_certificate_authority_may_be_kept(project: pytest.Pytester) -> None:
    test = """
        def test_it(hybridge_relay, pytestconfig):
            assert hybridge_relay.ca == pytestconfig.rootpath / "ca" / "ca.pem"
    """
    folder = project.path / "ca"

    run(project, test, "--hybridge-ca-dir=ca").assert_outcomes(passed=1)
    before = (folder / "ca.pem").read_bytes()
    run(project, test, "--hybridge-ca-dir=ca").assert_outcomes(passed=1)

    assert (folder / "ca.pem").read_bytes() == before


def test_installed_and_unused_it_imports_nothing_of_ours() -> None:
    script = (
        "import sys, devstack.pytest_plugin;"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in "
        "('relay', 'hcm_agent', 'app_client', 'hybridge', 'pydantic', 'websockets', 'asyncio')))"
    )

    found = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert found.stdout == "[]\n"
