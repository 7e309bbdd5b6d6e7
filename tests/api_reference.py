"""docs/api.md: the public names, made from signatures and docstrings.

python -m tests.api_reference --write    bring the page up to date
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import devstack.pytest_plugin
import devstack.testing
from hybridge.protocol import errors

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
LINE_CHARACTERS = 88

Documented = type | Callable[..., object]


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A heading of the page, and the names below it."""

    title: str
    introduction: str
    module: str
    names: Sequence[str]


CHAPTERS = (
    Chapter(
        title="Listen",
        introduction="`from hybridge import ...`. The [README](../README.md#from-python) has an "
        "example with both ends, [http.md](http.md) one for HTTP.",
        module="hybridge",
        names=(
            "Listener",
            "IncomingConnection",
            "IncomingRequest",
            "RequestBody",
            "OutgoingResponse",
        ),
    ),
    Chapter(
        title="Send",
        introduction="What both ends get is a stream.",
        module="hybridge",
        names=("connect", "Sender", "WebSocketStream"),
    ),
    Chapter(
        title="Settings, tokens and questions",
        introduction="`from hybridge import ...`.",
        module="hybridge",
        names=("Timing", "ConnectionString", "sign", "runtime_information", "RuntimeInformation"),
    ),
    Chapter(
        title="Serve an ASGI application",
        introduction="`from hybridge.asgi import serve`.",
        module="hybridge.asgi",
        names=("serve",),
    ),
    Chapter(
        title="Test with a relay",
        introduction="`import devstack.testing`. [testing.md](testing.md) is the guide.",
        module="devstack.testing",
        names=(
            "relay",
            "Relay",
            "Namespace",
            "HybridConnection",
            "Agent",
            "Leak",
            "background_relay",
        ),
    ),
)

ELSEWHERE = {
    "RelayError": "in the table of errors",
    "RequestHandler": "the type of a handler: takes an `IncomingRequest`, and is awaited",
    "Stream": "the base of `WebSocketStream`, whose methods are listed there",
}
"""Public names of ``hybridge`` without a section of their own, and why."""

_SECTION = re.compile(r"^(Args|Returns|Raises|Protocol|Yields):\n", re.M)
_ITEM = re.compile(r"^(?P<name>\*{0,2}\w+(?:, \*{0,2}\w+)*): (?P<text>.*?)(?=^\S|\Z)", re.M | re.S)
_CODE = re.compile(r"::\n\n(?P<code>(?:    .*\n|\n)+)")


def page() -> str:
    """Make the whole page."""
    parts = [
        "# API reference",
        "The public names of the SDK and of the test kit. Made from the code by "
        "`python -m tests.api_reference --write`; a test compares. Times are in seconds, sizes in "
        "bytes. Names that are not here may change without notice.",
        _contents(),
    ]
    for chapter in CHAPTERS:
        parts += [f"## {chapter.title}", chapter.introduction]
        module = importlib.import_module(chapter.module)
        for name in chapter.names:
            parts += _describe(name, getattr(module, name))
    parts += ["## Fixtures for pytest", _fixtures(), "## Errors", _errors()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def undescribed() -> list[str]:
    """Give the parameters of what callers call that no docstring describes."""
    found = []
    for chapter in CHAPTERS:
        module = importlib.import_module(chapter.module)
        for name in chapter.names:
            thing = getattr(module, name)
            if dataclasses.is_dataclass(thing) or not _is_called(name, thing):
                continue
            text = inspect.getdoc(thing) or ""
            found += [
                f"{name}({each.name})"
                for each in _parameters(thing)
                if not re.search(rf"\b{each.name}\b", text) and "Takes what" not in text
            ]
    return found


def _contents() -> str:
    rows = ["| Chapter | Names |", "|---|---|"]
    for chapter in CHAPTERS:
        names = ", ".join(f"`{name}`" for name in chapter.names)
        anchor = re.sub(r"[^\w\- ]", "", chapter.title.lower()).replace(" ", "-")
        rows.append(f"| [{chapter.title}](#{anchor}) | {names} |")
    names = ", ".join(f"`{name}`" for name, _ in _fixture_functions())
    rows.append(f"| [Fixtures for pytest](#fixtures-for-pytest) | {names} |")
    rows.append("| [Errors](#errors) | `RelayError` and what is below it |")
    return "\n".join(rows)


# --- one name ------------------------------------------------------------------------------------


def _describe(name: str, thing: Documented) -> list[str]:
    parts = [f"### {name}"]
    text = inspect.getdoc(thing) or ""
    if _is_called(name, thing):
        parts.append(f"```python\n{_signature(name, thing)}\n```")
    parts += _paragraphs(text if _is_called(name, thing) else text.partition("\nArgs:\n")[0])
    if inspect.isclass(thing):
        if values := list(_attributes(thing)):
            parts.append("\n".join(f"- `{each}`: {_inline(about)}" for each, about in values))
        for method_name, method in _methods(thing):
            parts.append(f"#### {name}.{method_name}")
            parts.append(f"```python\n{_signature(method_name, method)}\n```")
            parts += _paragraphs(inspect.getdoc(method) or "")
    return parts


def _is_called(name: str, thing: Documented) -> bool:
    """Whether callers call it; of most classes they are given an instance."""
    return not inspect.isclass(thing) or name in _CONSTRUCTED


_CONSTRUCTED = frozenset({"ConnectionString", "Listener", "Sender", "Timing", "connect"})


def _parameters(thing: Documented) -> list[inspect.Parameter]:
    return [each for each in inspect.signature(thing).parameters.values() if each.name != "self"]


def _signature(name: str, thing: Documented) -> str:
    """Write a signature as its source has it."""
    function = inspect.unwrap(thing)
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    is_context = hasattr(thing, "__wrapped__")
    start = "async with " if is_async and is_context else "await " if is_async else ""
    if is_context and not is_async:
        start = "with "
    parts, is_keyword_only = [], False
    for each in _parameters(thing):
        if each.kind is inspect.Parameter.KEYWORD_ONLY and not is_keyword_only:
            is_keyword_only = True
            parts.append("*")
        parts.append(_parameter(each))
    returned = ""
    annotation = inspect.signature(thing).return_annotation
    if not inspect.isclass(thing) and annotation not in (inspect.Signature.empty, "None", None):
        returned = f" -> {_yielded(annotation) if is_context else _annotation(annotation)}"
    one_line = f"{start}{name}({', '.join(parts)}){returned}"
    if len(one_line) <= LINE_CHARACTERS:
        return one_line
    lines = "".join(f"    {part},\n" for part in parts)
    return f"{start}{name}(\n{lines}){returned}"


def _parameter(parameter: inspect.Parameter) -> str:
    text = parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        default = parameter.default
        text += f" = {default!r}"
    return text


def _annotation(annotation: object) -> str:
    return str(annotation if isinstance(annotation, str) else getattr(annotation, "__name__", ""))


def _yielded(annotation: object) -> str:
    return re.sub(r"^(?:Async)?Iterator\[(.*)\]$", r"\1", _annotation(annotation))


def _methods(cls: type) -> Iterator[tuple[str, Callable[..., object]]]:
    seen = set()
    for each in cls.__mro__:
        for name, value in vars(each).items():
            is_ours = each.__module__.startswith(("hybridge", "devstack"))
            if name.startswith("_") or name in seen or not is_ours or not inspect.isfunction(value):
                continue
            if f"{cls.__name__}.{name}" in _INNER:
                continue
            seen.add(name)
            yield name, value


_STREAM = ("attach", "broken", "data", "drained", "ended", "is_blocked", "pause", "resume", "write")
_INNER = frozenset(
    {
        *(f"WebSocketStream.{name}" for name in (*_STREAM, "write_eof")),
        "Agent.lost",
        *(f"HybridConnection.{name}" for name in ("calm", "end", "leaks", "open_port")),
        *(
            f"Relay.{name}"
            for name in ("agents", "forget", "gateway", "serve", "serve_new", "tasks")
        ),
    }
)
"""What has no underscore because other modules of ours use it, and is no part of the reference."""


def _attributes(cls: type) -> Iterator[tuple[str, str]]:
    """Give public attributes and properties with their docstrings."""
    seen = set()
    for each in cls.__mro__:
        if not each.__module__.startswith(("hybridge", "devstack")):
            continue
        for name, text in [*_assigned(each), *_properties(each)]:
            is_inner = name.startswith("_") or f"{cls.__name__}.{name}" in _INNER
            if name not in seen and not is_inner:
                seen.add(name)
                yield name, _told(text, each)


def _told(text: str, cls: type) -> str:
    """Follow ``See `Class.name`.`` to what is said there."""
    if found := re.fullmatch(r"See `(\w+)\.(\w+)`\.", text):
        other = vars(sys.modules[cls.__module__])[found[1]]
        return dict(_attributes(other))[found[2]]
    return text


def _properties(cls: type) -> Iterator[tuple[str, str]]:
    for name, value in vars(cls).items():
        if isinstance(value, property) and value.__doc__:
            yield name, inspect.cleandoc(value.__doc__).partition("\n\n")[0]


def _assigned(cls: type) -> Iterator[tuple[str, str]]:
    """Give what is assigned in a class or its ``__init__``, with the string that follows."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    bodies = [tree.body]
    bodies += [
        node.body
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    for body in bodies:
        for node, after in itertools.pairwise(body):
            if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(after, ast.Expr):
                continue
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            name = target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)
            if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                yield name, inspect.cleandoc(after.value.value)


# --- docstrings ----------------------------------------------------------------------------------


def _paragraphs(text: str) -> list[str]:
    """Turn a docstring into paragraphs of Markdown."""
    pieces = _SECTION.split(text)
    parts = [_prose(pieces[0])] if pieces[0].strip() else []
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        inner = textwrap.dedent(body)
        if title in ("Args", "Raises"):
            items = "\n".join(
                f"- `{item['name']}`: {_inline(item['text'])}" for item in _ITEM.finditer(inner)
            )
            parts.append(f"{'Arguments' if title == 'Args' else title}:\n\n{items}")
        elif title in ("Returns", "Yields"):
            parts.append(f"{title}: {_inline(inner)}")
    return parts


def _prose(text: str) -> str:
    return _inline_all(_CODE.sub(lambda found: ":\n\n" + _fence(found["code"]), text + "\n"))


def _fence(code: str) -> str:
    return f"```python\n{textwrap.dedent(code).strip()}\n```\n\n"


def _inline(text: str) -> str:
    return _inline_all(" ".join(text.split()))


def _inline_all(text: str) -> str:
    return re.sub(r"(?<!`)``(?!`)", "`", text).strip()


# --- fixtures and errors -------------------------------------------------------------------------


def _fixture_functions() -> Iterator[tuple[str, Callable[..., object]]]:
    for name, value in vars(devstack.pytest_plugin).items():
        wrapped = getattr(value, "_get_wrapped_function", None)
        if wrapped is not None:
            yield name, wrapped()


def _fixtures() -> str:
    rows = ["| Fixture | Scope | Gives |", "|---|---|---|"]
    for name, function in _fixture_functions():
        marker = vars(devstack.pytest_plugin)[name]._fixture_function_marker
        about = _inline((inspect.getdoc(function) or "").partition("\n\n")[0])
        returned = _yielded(inspect.signature(function).return_annotation)
        rows.append(f"| `{name}` | {marker.scope} | `{returned.replace('|', 'or')}`. {about} |")
    return (
        "Installed with the package. A `Background...` object has the methods of the object "
        "without that word, as calls that block. [testing.md](testing.md) "
        "has examples.\n\n" + "\n".join(rows)
    )


def _errors() -> str:
    rows = ["| Error | Is a | Raised when | Status |", "|---|---|---|---|"]
    for name, value in vars(errors).items():
        is_error = inspect.isclass(value) and issubclass(value, errors.RelayError)
        if not is_error or value.__module__ != errors.__name__:
            continue
        parent = value.__base__
        assert parent is not None
        about = _inline((inspect.getdoc(value) or "").partition("\n\n")[0])
        status = value.status if value.status is not None else ""
        rows.append(f"| `{name}` | `{parent.__name__}` | {about} | {status} |")
    return (
        "All of them are in `hybridge.protocol.errors`; `RelayError` also in `hybridge`. Each has "
        "`hint`, what to try next, and `status`, the HTTP status that says the same on the wire, "
        "or None. No message holds a key or a token.\n\n" + "\n".join(rows)
    )


def main(arguments: list[str]) -> int:
    """Check the page, or write it."""
    fresh = page()
    if arguments == ["--write"]:
        PAGE.write_text(fresh, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != fresh:
        sys.stderr.write("docs/api.md is old: python -m tests.api_reference --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
