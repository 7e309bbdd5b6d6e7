"""The documentation is true: links, clauses, settings, flags, help texts, error texts, examples."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from app_client.settings import ClientSettings
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hybridge.program.timing_settings import TimingSettings, pascal_case
from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.secret import Secret
from hybridge.transport.timing import Timing
from relay.cli import cli as relay_cli
from relay.configuration import DEVELOPMENT_KEY, Sources, load
from relay.settings import RelaySettings, file_key
from tests import clauses, help_texts
from tests.support.chain import FULL_LENGTH
from tests.support.debian import REQUIRE_ALL
from tests.support.relay import KEY, running_relay

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
PROTOCOL = clauses.PROTOCOL.read_text(encoding="utf-8")
PACKAGES = ("hybridge", "relay", "hcm_agent", "app_client", "devstack")

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def _blocks(page: str, language: str) -> list[str]:
    return [found["body"] for found in _FENCE.finditer(page) if found["language"] == language]


def _prose(page: str) -> str:
    return _FENCE.sub("", page)


def _rows(page: str) -> Iterator[list[str]]:
    for line in _prose(page).splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def _anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.M)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = []
    for found in _LINK.finditer(_prose(path.read_text(encoding="utf-8"))):
        target, _, anchor = found["target"].partition("#")
        if target.startswith(("https://", "http://")):
            continue
        to = (path.parent / target).resolve() if target else path
        if not to.exists() or (anchor and anchor not in _anchors(to.read_text(encoding="utf-8"))):
            broken.append(found["target"])

    assert broken == []


def test_every_page_of_the_documentation_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        for found in _LINK.finditer(path.read_text(encoding="utf-8")):
            to = (path.parent / found["target"].partition("#")[0]).resolve()
            waiting += sorted(to.glob("*.md")) if to.is_dir() else [to] if to.exists() else []

    assert [path for path in PAGES if path not in reached] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_of_ours_that_is_named_exists(path: Path) -> None:
    folders = "|".join((*PACKAGES, "tests", "docs", "docker", "benchmarks", "examples"))
    named = re.findall(rf"`((?:{folders})/[\w./-]+)`", path.read_text(encoding="utf-8"))
    examples = {"relay/core/x.py", "tests/relay/core/test_x.py"}

    assert [name for name in named if name not in examples and not (ROOT / name).exists()] == []


# --- clauses -------------------------------------------------------------------------------------


def test_every_clause_of_this_version_has_a_test() -> None:
    found = clauses.read_markers()

    assert clauses.without_test(found) == []


def test_no_test_names_a_clause_that_does_not_exist() -> None:
    assert sorted(set(clauses.read_markers()) - set(clauses.CLAUSES)) == []


def test_the_protocols_page_has_every_clause_once_and_in_order() -> None:
    numbers = [int(row[0]) for row in _rows(PROTOCOL) if row[0].isdigit()]

    assert numbers == list(clauses.CLAUSES)


def test_the_protocols_page_names_the_tests_as_they_are() -> None:
    fresh = clauses.with_tests(PROTOCOL, clauses.read_markers())

    assert fresh == PROTOCOL, "run: python -m tests.clauses --write"


def test_the_protocols_page_has_a_good_result_for_every_clause() -> None:
    results = {row[-1].rstrip(" |") for row in _rows(PROTOCOL) if row[0].isdigit()}

    assert results <= {"passed", "not yet"}, "run: python -m tests.clauses --write-results"


def test_the_protocols_page_says_not_yet_where_it_is_so() -> None:
    not_yet = {
        int(row[0]) for row in _rows(PROTOCOL) if row[0].isdigit() and row[3].startswith("not yet")
    }

    assert not_yet - {115} == clauses.NOT_YET - {115}


# --- flags, variables and keys -------------------------------------------------------------------

_COMMANDS = dict(help_texts.commands())


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_flag_and_its_variable_is_described(name: str) -> None:
    missing = []
    for option in help_texts.options(_COMMANDS[name]):
        variables = option.envvar if isinstance(option.envvar, list) else [option.envvar or ""]
        words = [*option.opts, *option.secondary_opts, *(each for each in variables if each)]
        missing += [word for word in words if f"`{word}`" not in CONFIGURATION]

    assert missing == []


def test_only_variables_that_exist_are_described() -> None:
    known = {"HYBRIDGE_EVENT_LOOP", FULL_LENGTH, REQUIRE_ALL}
    for command in _COMMANDS.values():
        for option in help_texts.options(command):
            twins = option.envvar or []
            known |= {twins} if isinstance(twins, str) else set(twins)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"\b(?:HYBRIDGE_RELAY|HCM|APP_CLIENT|HYBRIDGE)_[A-Z_]+\b", text))
        unknown = named - known
        assert unknown == set(), page.name


@pytest.mark.parametrize("command", help_texts.shown(CONFIGURATION))
def test_a_help_text_that_is_shown_is_the_real_one(command: str) -> None:
    shown = help_texts.shown(CONFIGURATION)[command]

    assert shown == help_texts.help_text(command), "run: python -m tests.help_texts --write"


@pytest.mark.parametrize("command", _COMMANDS)
def test_the_help_of_every_command_fits_one_screen(command: str) -> None:
    lines = help_texts.help_text(command).splitlines()

    assert len(lines) <= help_texts.LINES
    assert max(map(len, lines)) <= help_texts.COLUMNS


def test_the_help_of_every_command_is_shown() -> None:
    leaves = {
        name
        for name, command in _COMMANDS.items()
        if not isinstance(command, click.Group) or command.invoke_without_command
        if not help_texts.shown_once(name)
    }

    assert set(help_texts.shown(CONFIGURATION)) == leaves


def test_the_readmes_table_of_commands_has_their_own_words() -> None:
    described = {row[0].strip("`"): row[1] for row in _rows(README) if len(row) == 2}

    for name, command in _COMMANDS.items():
        if isinstance(command, click.Group) and not command.invoke_without_command:
            continue
        if help_texts.shown_once(name):
            continue
        first = (command.short_help or (command.help or "").split(". ")[0]).split("\n")[0]
        assert described[name].rstrip(".") == first.rstrip("."), name


def _documented_defaults() -> dict[str, str]:
    text = CONFIGURATION.split("### Settings of the relay")[1].split("\n### ")[0]
    return {row[0].strip("`"): row[1].strip("`") for row in _rows(text)}


@pytest.mark.parametrize("field", dataclasses.fields(RelaySettings), ids=lambda field: field.name)
def test_every_setting_of_the_relay_is_described_with_its_default(
    field: dataclasses.Field[object],
) -> None:
    shown = _documented_defaults()[file_key(field.name)]

    if field.name == "state_dir":
        assert "--state-dir" in shown
    elif field.default is None:
        assert shown == "none"
    elif isinstance(field.default, bool):
        assert shown == str(field.default).lower()
    elif isinstance(field.default, int | float):
        assert float(shown) == field.default
    else:
        assert shown == field.default


def test_only_settings_that_the_relay_has_are_described() -> None:
    known = {file_key(field.name) for field in dataclasses.fields(RelaySettings)}

    assert set(_documented_defaults()) - known == {"Key"}


def test_every_setting_of_agent_and_client_is_described_with_its_default() -> None:
    text = CONFIGURATION.split("### Settings of hcm and app-client")[1].split("\n## ")[0]
    shown = {row[0].strip("`"): row[1] for row in _rows(text)}
    expected = {
        **{pascal_case(each.name): each.default for each in dataclasses.fields(Timing)},
        "DrainSeconds": AgentSettings(hybrid_connections=()).drain_seconds,
        "DatagramIdleSeconds": ClientSettings(forwards=()).datagram_idle_seconds,
        **{
            pascal_case(each.name): each.default
            for each in dataclasses.fields(HybridConnectionSettings)
            if each.name in ("target_timeout_seconds", "endpoint_check_seconds")
        },
    }

    assert shown.pop("Multiplex") == f"`{json.dumps(TimingSettings().multiplex)}`"
    assert ClientSettings(forwards=()).drain_seconds == expected["DrainSeconds"]
    assert {key: float(shown[key]) for key in expected} == expected
    assert set(shown) - set(expected) == {"Key"}


def test_the_example_configuration_of_the_relay_is_valid(tmp_path: Path) -> None:
    examples = [
        block
        for page in PAGES
        for block in _blocks(page.read_text(encoding="utf-8"), "json")
        if '"UserConfig"' in block
    ]
    for example in examples:
        (tmp_path / "relay.json").write_text(example, encoding="utf-8")
        flags = {"state_dir": tmp_path / "state"}

        loaded = load(Sources(config=tmp_path / "relay.json", flags=flags), now=0.0)

        assert loaded.namespaces[0].hybrid_connections
    assert len(examples) >= 2


def test_switches_that_fidelity_names_exist() -> None:
    known = {file_key(field.name) for field in dataclasses.fields(RelaySettings)} | {"Hosts"}
    text = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    named: set[str] = set()
    for row in _rows(text):
        if len(row) == 4:
            named |= set(re.findall(r"`([A-Z]\w+)`", row[3]))

    assert named - known == {"Multiplex"}, "the only one that is not the relay's"
    assert "UnknownRendezvousStatus" in named


# --- what is shown and said ----------------------------------------------------------------------


def test_the_readme_prints_the_wellknown_development_key() -> None:
    assert f"\n{DEVELOPMENT_KEY}\n" in README
    keys = set(re.findall(r"SharedAccessKey=([^;\"]+)", README))
    assert keys == {DEVELOPMENT_KEY}


def test_the_connection_strings_in_the_readme_are_those_of_the_relays_that_it_starts(
    tmp_path: Path,
) -> None:
    printed: set[str] = set()
    for program, *flags in _shell_commands(README):
        if program == "hybridge-relay":
            command = ["connection-strings", *flags, "--state-dir", str(tmp_path)]
            output = CliRunner().invoke(relay_cli, command, catch_exceptions=False).output
            printed |= {line.split()[-1] for line in output.splitlines()}
    shown = re.findall(r'"(Endpoint=[^"]+)"', README)

    assert len(shown) == 4
    assert set(shown) - printed == set()


def test_the_demos_steps_in_the_readme_are_those_of_the_demo() -> None:
    source = (ROOT / "devstack" / "demo.py").read_text(encoding="utf-8")
    titles = re.findall(r'\.step\("([^"]+)"\)', source)
    shown = re.findall(r"^  \d   (.+)$", README, re.M)

    assert shown == titles


def test_the_commands_of_the_makefile_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.M))
        assert named - targets == set(), page.name


def _shell_commands(page: str) -> Iterator[list[str]]:
    for block in _blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].startswith(".venv/bin/"):
                words[0] = words[0].removeprefix(".venv/bin/")
            if words[:2] == ["python", "-m"] and words[2] in help_texts.MODULES:
                words = [help_texts.MODULES[words[2]], *words[3:]]
            if words and words[0] in help_texts.PROGRAMS:
                yield words


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_flags_in_shell_examples_exist(path: Path) -> None:
    for words in _shell_commands(path.read_text(encoding="utf-8")):
        found, rest = help_texts.find(words)
        known = {
            opt for command in found for each in help_texts.options(command) for opt in each.opts
        }
        used = {word.partition("=")[0] for word in rest if word.startswith("-")}

        assert used - known - {"--help"} == set(), " ".join(words)
        assert not isinstance(found[-1], click.Group) or found[-1].invoke_without_command


def test_the_shell_examples_are_found() -> None:
    assert len(list(_shell_commands(README))) >= 3


MIN_TEXT_CHARACTERS = 8
"""Shorter constants of the code say nothing about where a text comes from."""

OTHERS_TEXTS = ("IP address mismatch", "..., line 2, column 1: ...")
"""Words of OpenSSL, and a place in a file: not in our code as they stand."""


def _texts_in_the_code() -> set[str]:
    texts: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.add(node.value.strip())
    return {text.lower() for text in texts if len(text) >= MIN_TEXT_CHARACTERS}


def test_the_error_texts_in_troubleshooting_are_real() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    page = page.replace(_section(page, "First: where is it broken?"), "")
    page = page.replace(_section(page, "What the application sees"), "")
    page = page.replace(_section(page, "Docker"), "")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts = _texts_in_the_code()
    invented = [
        shown
        for row in _rows(page)
        for shown in re.findall(r"`([^`]+)`", row[0])
        if len(shown) >= 16
        and shown not in (*OTHERS_TEXTS, *re.findall(r"`(outcome=[^`]+)`", page))
        and shown not in makefile
        and not any(text in shown.lower() for text in texts)
    ]

    assert not invented, "\n".join(invented)


def _section(page: str, title: str) -> str:
    return page.split(f"## {title}\n")[1].split("\n## ")[0]


def test_json_and_yaml_examples_can_be_read() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in _blocks(text, "json"):
            without_comments = re.sub(r"(?<!:)//[^\n]*", "", block)
            json.loads(without_comments)
        for block in _blocks(text, "yaml"):
            yaml.safe_load(block)


# --- examples that run ---------------------------------------------------------------------------


async def test_the_python_examples_of_the_readme_run() -> None:
    examples = _blocks(README, "python")
    assert examples
    for example in examples:
        async with running_relay() as relay:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-c", example),
                cwd=ROOT,
                env={
                    "PATH": os.environ.get("PATH", ""),
                    "CA": str(relay.ca),
                    "LISTEN": _local(relay.port, "listenrule"),
                    "SEND": _local(relay.port, "sendrule"),
                },
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            output, errors = await process.communicate()

        assert (process.returncode, errors.decode()) == (0, "")
        assert output == b"b'HELLO'\n"
        assert output.decode() in _blocks(README, "text")


def _local(port: int, rule: str) -> str:
    return serialize(
        ConnectionString(host="localhost", port=port, path="hc1", key_name=rule, key=Secret(KEY))
    )
