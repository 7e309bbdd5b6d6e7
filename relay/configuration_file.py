"""The shape of a configuration file: that of Microsoft's own emulators.

Only keys and types are checked here; names, quotas and duplicates in `relay.configuration`.
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, SecretStr, create_model

from hybridge.program import documents
from relay.settings import RelaySettings, file_key

if TYPE_CHECKING:
    from collections.abc import Mapping


class Section(BaseModel):
    """An object of the file: PascalCase keys, and no unknown ones."""

    model_config = ConfigDict(
        alias_generator=file_key,
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )


class RuleSection(Section):
    """One entry of ``AuthorizationRules``. Missing keys are generated."""

    name: str
    rights: list[str]
    primary_key: SecretStr | None = None
    secondary_key: SecretStr | None = None


class HybridConnectionSection(Section):
    """One entry of ``HybridConnections``."""

    name: str
    endpoint: str | None = None
    requires_client_authorization: bool = True
    user_metadata: str | None = None
    authorization_rules: list[RuleSection] | None = None


class NamespaceSection(Section):
    """One entry of ``Namespaces``."""

    name: str
    hosts: list[str] | None = None
    authorization_rules: list[RuleSection] | None = None
    hybrid_connections: list[HybridConnectionSection] = []


def _settings_section() -> type[Section]:
    """Every field of `RelaySettings` under its key, none required."""
    hints = typing.get_type_hints(RelaySettings)
    fields: dict[str, typing.Any] = {}
    for each in dataclasses.fields(RelaySettings):
        kind = str if hints[each.name] in (Path, Path | None) else hints[each.name]
        fields[each.name] = (kind | None, None)
    return create_model("SettingsSection", __base__=Section, **fields)


if TYPE_CHECKING:

    class SettingsSection(Section):
        """The object ``Settings``: made from `RelaySettings`, so that each is written once."""
else:
    SettingsSection = _settings_section()


class UserConfigSection(Section):
    """The object ``UserConfig``."""

    namespaces: list[NamespaceSection]
    settings: SettingsSection | None = None


class ConfigurationFile(Section):
    """The whole file."""

    json_schema: str | None = Field(default=None, alias="$schema")
    user_config: UserConfigSection

    @property
    def settings(self) -> Mapping[str, object]:
        """The settings it names, by their names in `RelaySettings`."""
        section = self.user_config.settings
        if section is None:
            return {}
        return {name: value for name, value in section if name in section.model_fields_set}


def load(path: Path) -> ConfigurationFile:
    """Read a configuration file.

    Raises:
        InvalidSetting: It cannot be read, is neither JSON nor YAML, or has an unknown key or a
            wrong type; the error names file and place.
    """
    return documents.validated(ConfigurationFile, documents.load(path), str(path))
