from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.help_texts import PROGRAMS

SHELLS = ("bash", "zsh", "fish")


def variable(program: str) -> str:
    return f"_{program}_complete".replace("-", "_").upper()


def completed(program: str, *words: str) -> list[str]:
    """What bash would be told while the last of the words is typed."""
    environment = {
        variable(program): "bash_complete",
        "COMP_WORDS": " ".join((program, *words)),
        "COMP_CWORD": str(len(words)),
    }
    result = CliRunner().invoke(PROGRAMS[program], [], prog_name=program, env=environment)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_prints_the_script_of_each_shell(program: str, shell: str) -> None:
    result = CliRunner().invoke(PROGRAMS[program], ["completion", shell], prog_name=program)

    assert result.exit_code == 0, result.output
    assert f"{variable(program)}={shell}_complete" in result.output


def test_a_shell_that_nobody_knows_is_named() -> None:
    result = CliRunner().invoke(PROGRAMS["hcm"], ["completion", "tcsh"], prog_name="hcm")

    assert result.exit_code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in result.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("hcm", "ru"), "plain,run"),
        (("hcm", "completion", "z"), "plain,zsh"),
        (("hcm", "run", "--read"), "plain,--ready-file"),
        (("hcm", "run", "--log-format", "j"), "plain,json"),
        (("hcm", "run", "--connection-string-file", "or"), "file,or"),
        (("hybridge-relay", "he"), "plain,healthcheck"),
        (("app-client", "forw"), "plain,forward"),
        (("hybridge", "token", "in"), "plain,inspect"),
    ],
)
def test_commands_options_values_and_files_are_completed(
    words: tuple[str, ...], expected: str
) -> None:
    assert completed(*words) == [expected]


def test_a_real_bash_completes_with_the_script(tmp_path: Path) -> None:
    (tmp_path / "hcm").write_text(f'#!/bin/sh\nexec {sys.executable} -m hcm_agent "$@"\n')
    (tmp_path / "hcm").chmod(0o755)
    typed = (
        'eval "$(hcm completion bash)"; COMP_WORDS=(hcm ru); COMP_CWORD=1; '
        '_hcm_completion hcm ru hcm; echo "${COMPREPLY[@]}"'
    )

    answer = subprocess.run(  # noqa: S603 - our own script
        ["bash", "--norc", "-c", typed],  # noqa: S607 - the user's own
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout == "run\n"
    assert answer.stderr == ""
