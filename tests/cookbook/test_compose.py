"""The cookbook's Compose files: what they name exists, and fits together."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import json5
import pytest
import yaml

from relay.configuration import Sources, load
from relay.share import rule_strings
from tests import help_texts
from tests.support.debian import require
from tests.support.recipes import EXAMPLES

FOLDER = EXAMPLES / "compose"
OURS = ("relay", "hcm", "app-client")


def _load(path: Path) -> Mapping[str, dict[str, dict[str, object]]]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


BESIDE = _load(FOLDER / "compose.hybridge.yaml")
STACK = _load(FOLDER / "compose.yaml")
DATABASE = _load(FOLDER / "on-premises.yaml")
SERVICES = BESIDE["services"]


def _environment(service: str) -> dict[str, str]:
    variables = SERVICES[service]["environment"]
    assert isinstance(variables, dict)
    return variables


def _aliases(document: Mapping[str, dict[str, dict[str, object]]], service: str) -> Iterator[str]:
    networks = document["services"][service]["networks"]
    for options in networks.values() if isinstance(networks, dict) else ():
        yield from (options or {}).get("aliases", ())


@pytest.mark.parametrize("service", OURS)
def test_a_service_has_our_image_a_command_that_exists_and_variables_that_it_knows(
    service: str,
) -> None:
    command = SERVICES[service]["command"]
    assert isinstance(command, list)

    found, rest = help_texts.find(command)

    options = [each for one in found for each in help_texts.options(one)]
    flags = {flag for each in options for flag in each.opts}
    variables = {str(each.envvar) for each in options}
    assert {word for word in rest if word.startswith("--")} <= flags
    assert set(_environment(service)) <= variables
    own = _load(EXAMPLES.parent / "docker-compose.yml")
    assert SERVICES[service]["image"] == own["services"]["relay"]["image"]


def test_the_connection_strings_are_where_the_relay_puts_them(tmp_path: Path) -> None:
    sources = Sources(config=FOLDER / "relay.json", flags={"state_dir": tmp_path})
    (namespace,) = load(sources, now=0.0).namespaces
    written = {f"/run/hybridge/{each.file_name}" for each in rule_strings([namespace], 443)}
    (dialled,) = {each.connection_string.host for each in rule_strings([namespace], 443)}

    read = {
        value
        for service in OURS
        for name, value in _environment(service).items()
        if name.endswith("_STRING_FILE")
    }
    assert len(read) == 2
    assert read <= written
    assert dialled in _aliases(BESIDE, "relay")


def test_the_client_has_the_databases_name_and_port_and_the_database_another_network() -> None:
    document = json5.loads((FOLDER / "relay.json").read_text(encoding="utf-8"))
    (entry,) = document["UserConfig"]["Namespaces"][0]["HybridConnections"]
    host, _, port = entry["Endpoint"].partition(":")
    app = STACK["services"]["app"]["environment"]
    assert isinstance(app, dict)

    assert (app["PGHOST"], app["PGPORT"]) == (host, port)
    assert host in _aliases(BESIDE, "app-client")
    assert _environment("app-client")["APP_CLIENT_LISTEN"] == f"0.0.0.0:{port}"
    assert host in _aliases(DATABASE, "db")
    shared = DATABASE["networks"]["corp"]["name"]
    assert BESIDE["networks"]["corp"] == {"external": True, "name": shared}
    networks = {name: set(SERVICES[name]["networks"]) for name in OURS}  # type: ignore[call-overload]
    assert [name for name in OURS if "corp" in networks[name]] == ["hcm"]
    assert [name for name in OURS if "default" in networks[name]] == ["app-client"]


def test_compose_takes_the_files_together() -> None:
    compose = require("docker-compose")
    command = [compose, "-f", "compose.yaml", "-f", "compose.hybridge.yaml", "config"]

    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {"app", *OURS}
