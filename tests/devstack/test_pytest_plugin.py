"""The pytest plugin as its users see it: good use, and what is left open."""

from __future__ import annotations

import re

import pytest

from tests.support.plugin_project import run

pytest_plugins = ["pytester"]


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


def test_an_interrupted_session_ends_as_interrupted_whatever_is_left_open(
    project: pytest.Pytester,
) -> None:
    result = run(project, f"{LEAKING}            pytest.exit('enough', returncode=7)")

    assert result.ret == 7
    result.stdout.fnmatch_lines(["*Exit: enough*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


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
