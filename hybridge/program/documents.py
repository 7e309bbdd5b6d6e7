"""Files that people write: JSON with comments or YAML, and errors that name the line or the key."""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import types
import typing
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from hybridge.protocol.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

_JSON_SUFFIXES = (".json", ".jsonc", ".json5")
_YAML_SUFFIXES = (".yaml", ".yml")


class DuplicateKey(Exception):
    """One object of a file has the same key twice, and one of them would be lost."""


def load(path: Path) -> object:
    """Read a file of settings.

    The suffix decides: ``.json``, ``.jsonc`` and ``.json5`` are JSON with comments and trailing
    commas, ``.yaml`` and ``.yml`` are YAML; any other file is tried as both.

    Raises:
        InvalidSetting: It is a pipe or a device, cannot be read, or is neither. The error names the
            file and the line.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            # A pipe waits for a writer, and what it gave cannot be read again for a reload.
            raise InvalidSetting(
                str(path), "is not a regular file", hint="write the settings into a file, name that"
            )
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InvalidSetting(str(path), "no such file", hint="check the path") from None
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 text (byte {error.start + 1})"
        raise InvalidSetting(str(path), problem, hint="save the file as UTF-8") from None
    except PermissionError as error:
        problem, hint = f"cannot be read: {error.strerror}", f"let {_this_user()} read it: chmod"
        raise InvalidSetting(str(path), problem, hint=hint) from None
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise InvalidSetting(str(path), problem, hint="check the file's permissions") from None
    suffix = path.suffix.lower()
    if suffix in _JSON_SUFFIXES:
        return _parse_json(text, path)
    if suffix in _YAML_SUFFIXES:
        return _parse_yaml(text, path)
    try:
        return _parse_json(text, path)
    except InvalidSetting:
        if text.lstrip()[:1] in ("{", "[", "/"):
            raise
        return _parse_yaml(text, path)


def _this_user() -> str:
    # Windows has no numbers for users.
    return f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"


def _parse_json(text: str, path: Path) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except DuplicateKey as error:
        raise InvalidSetting(str(path), str(error), hint="keep one of the two") from None
    except RecursionError:
        raise InvalidSetting(str(path), "nested too deeply", hint="remove some levels") from None
    except ValueError:
        pass  # Comments, perhaps: the slower parser knows those.
    import json5

    try:
        return json5.loads(text, object_pairs_hook=_unique)
    except DuplicateKey as error:
        raise InvalidSetting(str(path), str(error), hint="keep one of the two") from None
    except RecursionError:
        raise InvalidSetting(str(path), "nested too deeply", hint="remove some levels") from None
    except ValueError as error:
        place = re.search(r":(\d+) (?:(.*) at column (\d+)|(.*))", str(error))
        if place is None:
            where, problem = str(path), "not JSON"
        elif place[3]:
            where, problem = f"{path}, line {place[1]}, column {place[3]}", place[2]
        else:
            where, problem = f"{path}, line {place[1]}", place[4]
        raise InvalidSetting(
            where, _shown(problem), hint="JSON with comments is expected here"
        ) from None


def _shown(problem: str) -> str:
    return (problem[:1].lower() + problem[1:])[:200]


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise DuplicateKey(f"the key {name!r} stands twice in one object")
        fields[name] = value
    return fields


def _parse_yaml(text: str, path: Path) -> object:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(
            self, node: yaml.MappingNode, deep: bool = False
        ) -> dict[object, object]:
            seen: set[object] = set()
            for key_node, _ in node.value:
                key = key_node.value
                if isinstance(key, str) and key != "<<" and key in seen:
                    line = key_node.start_mark.line + 1
                    raise DuplicateKey(f"line {line}: the key {key!r} stands twice in one mapping")
                if isinstance(key, str):
                    seen.add(key)
            fields: dict[object, object] = super().construct_mapping(node, deep=deep)
            return fields

    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
    except DuplicateKey as error:
        raise InvalidSetting(str(path), str(error), hint="keep one of the two") from None
    except RecursionError:
        raise InvalidSetting(str(path), "nested too deeply", hint="remove some levels") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        problem = _shown(error.problem or "not YAML")
        raise InvalidSetting(where, problem, hint="YAML is expected here") from None
    except (yaml.YAMLError, ValueError) as error:
        problem = _shown(" ".join(str(error).split()))
        raise InvalidSetting(str(path), problem, hint="YAML is expected here") from None


# --- What the file says, against what it may say -------------------------------------------------


def validated(model: type[Model], data: object, source: str) -> Model:
    """Check what a file says against what it may say.

    Args:
        model: The pydantic model; its keys are the aliases, and unknown ones are forbidden.
        data: What `load` gave.
        source: The file's name, for the error.

    Raises:
        InvalidSetting: The first thing that is wrong, with its place, such as
            ``relay.json: UserConfig.Namespaces[0].Nmae: unknown key``, and the closest known key as
            the hint. Values are never shown: some of them are keys.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # Not "from error": pydantic's text shows the values.
        raise _translated(model, error.errors(include_url=False), source) from None


def _translated(model: type[BaseModel], found: list[ErrorDetails], source: str) -> InvalidSetting:
    # A misspelt key is also a missing one: name the spelling first.
    first = next((detail for detail in found if detail["type"] == "extra_forbidden"), found[0])
    place = spelled(first["loc"])
    more = "" if len(found) == 1 else f" (and {len(found) - 1} more)"
    problem, hint = _explained(model, first)
    return InvalidSetting(f"{source}: {place}" if place else source, problem + more, hint=hint)


def spelled(location: Location) -> str:
    """Write a place in a document as people do: ``UserConfig.Namespaces[0].Name``."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _explained(model: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    location = detail["loc"]
    match detail["type"]:
        case "extra_forbidden":
            known = _known_keys(_annotation_at(model, location[:-1]))
            return "unknown key", closest(str(location[-1]), known)
        case "missing":
            return "is missing", f"add the key {str(location[-1])!r}"
        case "model_type" | "model_attributes_type" | "dict_type":
            known = _known_keys(_annotation_at(model, location))
            hint = f"known keys: {', '.join(known)}" if known else ""
            return f"must be an object, not {_kind(detail['input'])}", hint
        case "list_type" | "tuple_type":
            return f"must be a list, not {_kind(detail['input'])}", "write it in [ ]"
        case "string_type":
            return f"must be a text, not {_kind(detail['input'])}", "put it in quotes"
        case "bool_type" | "bool_parsing":
            return f"must be true or false, not {_kind(detail['input'])}", "write true or false"
        case "int_type" | "int_parsing" | "int_from_float":
            return (
                f"must be a whole number, not {_kind(detail['input'])}",
                "write it without quotes",
            )
        case "float_type" | "float_parsing":
            return f"must be a number, not {_kind(detail['input'])}", "write it without quotes"
        case "invalid_key":
            return "has a key that is not a text", "put the key in quotes"
        case _:
            return _shown(detail["msg"]), "see docs/configuration.md"


def closest(written: str, known: Sequence[str]) -> str:
    """Say which of the known names was probably meant, and which there are."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(written.lower(), by_lower, n=1, cutoff=0.6)
    guess = f"did you mean {by_lower[near[0]]!r}? " if near else ""
    return f"{guess}known: {', '.join(known)}"


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def _known_keys(annotation: object) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [field.alias or name for name, field in annotation.model_fields.items()]
    return []


def _annotation_at(model: type[BaseModel], location: Location) -> object:
    annotation: object = model
    for step in location:
        annotation = _plain(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = annotation.model_fields.items()
            annotation = next(
                (field.annotation for name, field in fields if step in (field.alias, name)), None
            )
        else:
            inner = typing.get_args(annotation)
            annotation = (
                inner[-1] if inner and inner[-1] is not Ellipsis else next(iter(inner), None)
            )
    return _plain(annotation)


def _plain(annotation: object) -> object:
    """Take ``| None`` away."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(annotation) if part is not types.NoneType]
        return inner[0] if inner else annotation
    return annotation
