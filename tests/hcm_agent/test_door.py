"""How the verbs reach the service, and whom they do not trust."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from importlib.metadata import version
from pathlib import Path

import pytest

from hcm_agent.control.client import ServiceClient
from hcm_agent.control.door import Door, NotOurs, ServiceNotRunning, connect, listening
from hcm_agent.control.server import MAX_BODY_BYTES
from hcm_agent.state_directory import StateDirectory
from hybridge.protocol.errors import RelayError
from hybridge.transport.private_files import UnusableFile, write_atomically
from tests.support.hcm_service import running_service


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    (tmp_path / "state").mkdir(mode=0o700)
    return StateDirectory(tmp_path / "state", is_named=True)


def is_open(state: StateDirectory) -> bool:
    try:
        sock, _ = connect(state, timeout_seconds=5)
    except ServiceNotRunning:
        return False
    sock.close()
    return True


def test_the_socket_is_its_users_alone_and_gone_at_the_end(state: StateDirectory) -> None:
    with listening(state, Door.SOCKET) as (_, token):
        assert token == ""
        assert state.socket.stat().st_mode & 0o777 == 0o600
        assert is_open(state)

    assert not state.socket.exists()
    assert not is_open(state)


def test_a_socket_that_a_dead_service_left_is_no_service_and_is_replaced(
    state: StateDirectory,
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(state.socket))
    assert not is_open(state)

    with listening(state, Door.SOCKET):
        assert is_open(state)


def test_a_path_too_long_for_a_sockets_address_works_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    state = StateDirectory(deep, is_named=True)

    with listening(state, Door.SOCKET):
        assert is_open(state)


@pytest.mark.parametrize("door", list(Door))
def test_each_way_leads_to_the_service(tmp_path: Path, door: Door) -> None:
    with running_service(tmp_path / "state", door=door) as service:
        client = ServiceClient(service.state)

        assert client.get("/hybrid-connections") == []
        assert client.get("/version") == {"Version": version("hybridge"), "Process": os.getpid()}
        assert service.state.loopback.exists() == (door is Door.LOOPBACK)
    assert not service.state.loopback.exists()


def test_over_loopback_nobody_is_heard_without_the_token(tmp_path: Path) -> None:
    with running_service(tmp_path / "state", door=Door.LOOPBACK) as service:
        assert service.state.loopback.stat().st_mode & 0o777 == 0o600
        port = json.loads(service.state.loopback.read_text())["port"]

        for given in ({}, {"Authorization": "Bearer guess"}):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/hybrid-connections", headers=given)
            assert connection.getresponse().status == 401
            connection.close()


def test_a_token_that_others_can_read_is_not_used(state: StateDirectory) -> None:
    with listening(state, Door.LOOPBACK):
        state.loopback.chmod(0o644)

        with pytest.raises(UnusableFile, match="others may read it"):
            connect(state, timeout_seconds=5)


def test_a_socket_of_another_user_is_told_nothing(state: StateDirectory) -> None:
    with listening(state, Door.SOCKET):
        owner = os.geteuid() or 1_234
        with pytest.MonkeyPatch.context() as patched:
            if os.geteuid() == 0:
                os.chown(state.socket, owner, -1)
                os.chown(state.path, 0, -1)
            else:
                patched.setattr(os, "geteuid", lambda: owner + 1)

            with pytest.raises(NotOurs, match=f"another user .id {owner}., and is not trusted"):
                connect(state, timeout_seconds=5)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_root_speaks_to_the_service_of_the_user_who_has_the_directory(
    state: StateDirectory,
) -> None:
    with listening(state, Door.SOCKET):
        os.chown(state.socket, 1_234, -1)
        os.chown(state.path, 1_234, -1)

        assert is_open(state)


def test_what_is_no_socket_is_not_spoken_to(state: StateDirectory) -> None:
    state.socket.write_text("")

    with pytest.raises(NotOurs, match="is not a socket"):
        connect(state, timeout_seconds=5)


def test_a_directory_that_this_user_may_not_enter_says_so(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", deny)

    with pytest.raises(NotOurs, match="may not speak to the service"):
        connect(state, timeout_seconds=5)


def test_requests_that_no_verb_sends_are_refused_and_change_nothing(tmp_path: Path) -> None:
    with running_service(tmp_path / "state") as service:
        client = ServiceClient(service.state)

        with pytest.raises(RelayError, match="no connectionString"):
            client.post("/add")
        with pytest.raises(RelayError, match="too long"):
            client.post("/add", connectionString="x" * MAX_BODY_BYTES)
        with pytest.raises(RelayError, match="is not this version of hcm") as caught:
            client.get("/nowhere")
        with pytest.raises(RelayError, match="is not this version of hcm"):
            client.post("/version")
        with pytest.raises(RelayError, match="is not this version of hcm"):
            list(client.lines("/nowhere"))
        assert caught.value.hint

        assert client.get("/hybrid-connections") == []


def test_a_service_that_says_nothing_is_not_waited_for(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hcm_agent.control.client.ANSWER_SECONDS", 0.01)
    with (
        listening(state, Door.SOCKET),
        pytest.raises(RelayError, match="does not answer") as caught,
    ):
        ServiceClient(state).get("/version")
    assert caught.value.hint


@pytest.mark.parametrize("answers", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nyes!", b""])
def test_a_stranger_who_has_the_port_of_a_killed_service_is_told_no_key(
    state: StateDirectory, answers: bytes
) -> None:
    heard = []

    def take_in(stranger: socket.socket) -> None:
        sock, _ = stranger.accept()
        with sock:
            heard.append(sock.recv(65_536))
            sock.sendall(answers)
            sock.shutdown(socket.SHUT_WR)
            while more := sock.recv(65_536):
                heard.append(more)

    with socket.create_server(("127.0.0.1", 0)) as stranger:
        left = {"port": stranger.getsockname()[1], "token": "of the service that was killed"}
        write_atomically(state.loopback, json.dumps(left).encode())
        listening_in = threading.Thread(target=take_in, args=(stranger,))
        listening_in.start()

        with pytest.raises(ServiceNotRunning):
            ServiceClient(state).post("/add", connectionString="SharedAccessKey=hidden")
        listening_in.join(20)

    told = b"".join(heard)
    assert told.startswith(b"GET /proof?question=")
    assert b"hidden" not in told
    assert b"killed" not in told


@pytest.mark.parametrize(
    ("status", "says"), [(503, "answers as many verbs as it can"), (500, "failed to answer")]
)
def test_an_answer_that_is_no_verbs_is_told_apart(
    state: StateDirectory, status: int, says: str
) -> None:
    def answer(service: socket.socket) -> None:
        sock, _ = service.accept()
        with sock:
            sock.recv(65_536)
            sock.sendall(f"HTTP/1.1 {status} x\r\nConnection: close\r\n\r\nno".encode())

    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(state.socket))
        service.listen()
        answering = threading.Thread(target=answer, args=(service,))
        answering.start()

        with pytest.raises(RelayError, match=says):
            ServiceClient(state).get("/version")
        answering.join(20)


def test_what_no_verb_sends_is_refused_and_is_no_bug(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_service(tmp_path / "state") as service:
        statuses = []
        asked = [("POST", "/add", b"[" * 60_000), ("GET", f"/logs?lines={'9' * 5_000}", None)]
        for method, path, body in asked:
            sock, _ = connect(service.state, timeout_seconds=20)
            connection = http.client.HTTPConnection("hcm")
            connection.sock = sock
            connection.request(method, path, body)
            statuses.append(connection.getresponse().status)
            connection.close()

    assert statuses == [400, 200]
    assert "Traceback" not in caplog.text
