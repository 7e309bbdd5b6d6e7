from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from benchmarks import half_close, load
from benchmarks.__main__ import PEERS
from benchmarks.meter import wait_until
from benchmarks.peers import Peer, PeerMissing
from benchmarks.peers.chisel import CHISEL, Chisel
from benchmarks.peers.frp import Frp
from benchmarks.peers.naive import Naive
from benchmarks.peers.rathole import Rathole
from benchmarks.peers.tunnel import Built, Place, Step, Tunnel
from benchmarks.peers.wstunnel import Wstunnel
from benchmarks.run import START_SECONDS, target
from hybridge.transport.development_ca import DevelopmentCa
from tests.support.chain import FULL_LENGTH, is_full_length

TARGET = ("127.0.0.1", 5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    DevelopmentCa.load_or_create(folder).certificate_for(["localhost"])
    return Place(folder=folder, target=TARGET, server=1, far=2, near=3, secret="s" * 32)


def steps(
    peer: type[Tunnel], place: Place, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> list[Step]:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    return list(peer(cache=cache).steps(place))


def test_peers_have_names_of_their_own() -> None:
    assert len({peer.name for peer in PEERS}) == len({peer.label for peer in PEERS}) == len(PEERS)


@pytest.mark.parametrize("peer", [Frp, Chisel, Rathole, Wstunnel, Naive])
def test_a_tunnel_starts_its_server_first_and_puts_no_secret_on_a_command_line(
    peer: type[Tunnel], place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = steps(peer, place, monkeypatch, tmp_path)

    assert found[0].port == place.server or found[0].ready
    assert not any(place.secret in part for step in found for part in step.command)


@pytest.mark.parametrize("peer", [Chisel, Wstunnel])
def test_a_tunnel_leads_from_the_near_port_over_the_far_one_to_the_target(
    peer: type[Tunnel], place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, far, near = steps(peer, place, monkeypatch, tmp_path)

    assert any("127.0.0.1:2:127.0.0.1:5" in part for part in far.command)
    assert any("127.0.0.1:3:127.0.0.1:2" in part.replace("tcp://", "") for part in near.command)


def test_frp_has_tls_everywhere_and_files_that_only_we_can_read(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = steps(Frp, place, monkeypatch, tmp_path)
    files = [Path(step.command[-1]) for step in found]
    server, far, near = (tomllib.loads(path.read_text()) for path in files)

    assert server["transport"]["tls"]["force"] is True
    assert far["proxies"][0]["localPort"] == 5
    assert near["visitors"][0]["bindPort"] == 3
    assert far["proxies"][0]["secretKey"] == near["visitors"][0]["secretKey"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_rathole_has_tls_on_the_leg_that_it_has(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = steps(Rathole, place, monkeypatch, tmp_path)
    server, client = (tomllib.loads(Path(step.command[-1]).read_text()) for step in found)

    assert server["server"]["transport"]["type"] == client["client"]["transport"]["type"] == "tls"
    assert server["server"]["services"]["bench"]["bind_addr"] == "127.0.0.1:3"
    assert client["client"]["services"]["bench"]["local_addr"] == "127.0.0.1:5"


def test_a_program_that_is_not_here_is_missing_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)

    with pytest.raises(PeerMissing, match="no frps on PATH"):
        Frp(cache=tmp_path).prepare()
    with pytest.raises(PeerMissing, match="no chisel on PATH; --build builds it with go"):
        Chisel(cache=tmp_path).prepare()


def test_a_program_that_cannot_be_built_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)

    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr("subprocess.run", fail)

    with pytest.raises(PeerMissing, match="go install could not build it"):
        CHISEL.find(tmp_path, may_build=True)


def test_a_program_that_was_built_before_is_used_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    kept = tmp_path / "rathole" / "bin" / "rathole"
    kept.parent.mkdir(parents=True)
    kept.touch()

    assert Built(program="rathole").find(tmp_path, may_build=False) == kept


MAY_BE_MISSING = {"frp", "chisel", "rathole", "wstunnel"}
"""No package of Debian has them. All others are what the figures are against."""


@pytest.mark.skipif(not is_full_length(), reason=f"starts every peer: set {FULL_LENGTH}")
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_carries_bytes(peer: Peer) -> None:
    try:
        assert peer.prepare() or peer.name in {"direct", "hybridge-asyncio"}
    except PeerMissing as missing:
        if peer.name not in MAY_BE_MISSING:
            raise
        pytest.skip(str(missing))
    with target() as address, peer.run(address) as way:
        assert wait_until(lambda: load.is_through(way.address), seconds=START_SECONDS)
        assert load.bulk_down(way.address, 1_000_000) > 0
        assert load.bulk_up(way.address, 1_000_000) > 0
        # One stands for those who do not think of half-close; the other is one of them.
        assert half_close.near_ends_first(way.address) is (peer.name not in {"naive", "frp"})
