"""A node's settings, composed: flags win over the environment, the environment over the file.

Everything that is wrong is told at once: where it stands, which field, and what is wrong with it. Values are
never shown, for they may be secrets.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tokendance_cli.failures import USAGE, CommandError
from tokendance_facade.config import FacadeConfig
from tokendance_server.catalogue_settings import ModelSettings, ProviderSettings
from tokendance_server.config import ServerConfig

ENV_PREFIX = "TOKENDANCE_GATEWAY_"
CONFIG_VARIABLE = "TOKENDANCE_GATEWAY_CONFIG"
SECRET_PREFIXES = ("TOKENDANCE_GATEWAY_PEPPER", "TOKENDANCE_GATEWAY_RING")
"""Begin the variables that server.pepper and server.key_ring may refer to; they are secrets and no settings."""
_DELIMITER = "__"
_FLAGS = {
    ("server", "data_dir"): "--data-dir",
    ("server", "grpc"): "--grpc",
    ("server", "grpc_public"): "--grpc-public",
    ("facade", "http"): "--http",
    ("facade", "internal"): "--internal",
    ("facade", "server"): "--server",
}


class GatewaySettings(BaseSettings):
    """Everything that one process is told: tables [server] and [facade], arrays [[providers]] and [[models]]."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=_DELIMITER,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    server: ServerConfig = ServerConfig()
    facade: FacadeConfig = FacadeConfig()
    providers: tuple[ProviderSettings, ...] = ()
    models: tuple[ModelSettings, ...] = ()


def load_settings(config: Path | None, flags: Mapping[str, Mapping[str, object]]) -> GatewaySettings:
    """Return the settings; raises CommandError that lists every mistake.

    `flags` are tables of values, such as `{"server": {"grpc": "127.0.0.1:0"}}`; None stands for a flag not given.
    """
    given = {
        table: {name: value for name, value in values.items() if value is not None} for table, values in flags.items()
    }
    written = {} if config is None else _read(config)

    class Composed(GatewaySettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, _Environment(settings_cls), InitSettingsSource(settings_cls, written)

    mistakes = list(_unknown_variables())
    settings: GatewaySettings | None = None
    try:
        settings = Composed(**{table: values for table, values in given.items() if values})  # type: ignore[arg-type]
    except ValidationError as error:
        mistakes += _told(error, given, config)
    if mistakes or settings is None:
        raise CommandError("The settings cannot be used:", *mistakes, exit_code=USAGE)
    return settings


class _Environment(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read JSON, or a list written with commas; what is neither is told by the field's own check."""
        try:
            return json.loads(value)
        except ValueError:
            return [part.strip() for part in value.split(",")]


def _read(config: Path) -> dict[str, Any]:
    try:
        with config.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise CommandError(f"The file {config} cannot be read: {error.strerror}.", exit_code=USAGE) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"The file {config} is not valid TOML: {error}.", exit_code=USAGE) from error


def _unknown_variables() -> Iterator[str]:
    """Yield a line for each variable of ours that no table answers to; a nested name is checked with its table."""
    for name in sorted(os.environ):
        if not name.upper().startswith(ENV_PREFIX) or name.upper() == CONFIG_VARIABLE:
            continue
        if name.startswith(SECRET_PREFIXES):
            continue
        table = name[len(ENV_PREFIX) :].partition(_DELIMITER)[0].lower()
        if table not in GatewaySettings.model_fields:
            yield f"environment variable {name}: there is no such setting"


def _told(error: ValidationError, given: Mapping[str, Mapping[str, object]], config: Path | None) -> Iterator[str]:
    for mistake in error.errors(include_url=False, include_input=False, include_context=False):
        place = mistake["loc"]
        what = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            what = "there is no such setting"
        yield f"{_source(place, given, config)}: {_path(place)}: {what}"


def _source(place: Sequence[int | str], given: Mapping[str, Mapping[str, object]], config: Path | None) -> str:
    names = tuple(str(part) for part in place)
    if names[:2] in _FLAGS and names[1] in given.get(names[0], {}):
        return _FLAGS[names[0], names[1]]
    upper = {name.upper(): name for name in os.environ}
    for length in range(len(names), 0, -1):
        variable = ENV_PREFIX + _DELIMITER.join(names[:length]).upper()
        if variable in upper:
            return f"environment variable {upper[variable]}"
    return "defaults" if config is None else str(config)


def _path(place: Sequence[int | str]) -> str:
    path = ""
    for part in place:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
