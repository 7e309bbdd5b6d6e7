"""How every program ends: two lines for what a person can mend, a traceback for a bug."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hybridge.protocol.errors import InvalidSetting, RelayError
from hybridge.protocol.redaction import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from click.shell_completion import CompletionItem

FILE = click.Path(path_type=Path, readable=False)
"""A file; whoever reads it checks it, permissions too, so that the error has a next step."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

_FULL = (errno.ENOSPC, errno.EDQUOT)


def run_command(
    command: click.Command, program: str, args: Sequence[str] | None = None
) -> NoReturn:
    """Run a command line to its end, and leave the process with its exit code.

    Exit codes: 0 done, 1 failed, 2 usage or configuration. A `RelayError` (also one that comes out
    of a task group) and a wrong command line become two lines on standard error,
    ``program: error:`` and ``program: hint:``; anything else is a bug and keeps its traceback.

    Args:
        command: The program's click command. It may return its own exit code.
        program: The name that stands in front of both lines and in the help.
        args: The command line, if it is not that of the process.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As standard error does: a peer's words may have characters that the terminal has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = command.main(
            args=None if args is None else list(args), prog_name=program, standalone_mode=False
        )
    except click.exceptions.NoArgsIsHelpError as error:
        # Its message is the whole help.
        group, path = error.ctx.command, error.ctx.command_path
        commands = sorted(group.commands) if isinstance(group, click.Group) else []
        hint = f"give {' or '.join(commands)}; '{path} --help' tells more"
        _leave(program, "a command is missing", hint, EXIT_USAGE)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else program
        hint = f"'{path} --help' lists what can be given"
        _leave(program, error.format_message(), hint, EXIT_USAGE)
    except click.ClickException as error:
        _leave(program, error.format_message(), "", EXIT_FAILED)
    except click.Abort:
        sys.exit(EXIT_FAILED)
    except RelayError as error:
        _leave(program, str(error), error.hint, _exit_code(error))
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        # What still waits to be written is given up, or Python's end would try it once more.
        with contextlib.suppress(OSError):
            sys.stdout.close()
        problem = f"the output cannot be written: {error.strerror}"
        _leave(program, problem, "make room, or send it elsewhere", EXIT_FAILED)
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        if not all(isinstance(leaf, RelayError) for leaf in leaves):
            raise
        first = next(leaf for leaf in leaves if isinstance(leaf, RelayError))
        _leave(program, str(first), first.hint, _exit_code(first))
    sys.exit(result if isinstance(result, int) else EXIT_DONE)


def _exit_code(error: RelayError) -> int:
    return EXIT_USAGE if isinstance(error, InvalidSetting) else EXIT_FAILED


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _leave(program: str, message: str, hint: str, code: int) -> NoReturn:
    click.echo(f"{program}: error: {one_line(message)}", err=True)
    if hint:
        click.echo(f"{program}: hint: {one_line(hint)}", err=True)
    sys.exit(code)


def announce(log_format: str, text: str, /, **fields: object) -> None:
    """Print where the program can be reached: one line of JSON, or a text for people.

    It goes to standard output, alone, so that another program can wait for it; the log goes to
    standard error.

    Args:
        log_format: ``json`` or ``text``.
        text: What people read.
        **fields: What programs read, as one JSON object.
    """
    click.echo(json.dumps(fields, ensure_ascii=False) if log_format == "json" else text)


class OnePerLine(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4
    """The type of an option that may be repeated, and whose environment twin has one value a line.

    click splits such a variable at blanks; connection strings and paths may hold those.
    """

    envvar_list_splitter = "\n"

    def __init__(self, each: click.ParamType[Any] = click.STRING) -> None:
        self.each = each
        self.name = each.name

    def split_envvar_value(self, rv: str) -> list[str]:
        return [line.strip() for line in rv.splitlines() if line.strip()]

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        return self.each.convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self.each.get_metavar(param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return self.each.shell_complete(ctx, param, incomplete)
