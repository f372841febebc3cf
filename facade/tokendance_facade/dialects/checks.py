"""Checks of single values. Each returns the value with its type known, or raises invalid_request naming the field."""

from __future__ import annotations

import re
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

INT64_MAX = (1 << 63) - 1
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def invalid(path: str, message: str) -> GatewayError:
    """Return an invalid_request about the field at `path`."""
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=path, origin="caller")


def missing(path: str) -> GatewayError:
    """Return an invalid_request about a required field that is not there."""
    return invalid(path, f"`{path}` is required.")


def unsupported(path: str, message: str) -> GatewayError:
    """Return an unsupported_parameter about the field at `path`."""
    return GatewayError(errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, message, param=path, origin="caller")


def text(value: Any, path: str, *, low: int = 0, high: int | None = None) -> str:
    """Return a string of `low` to `high` characters."""
    if type(value) is not str:
        raise invalid(path, f"`{path}` must be a string.")
    if len(value) < low:
        raise invalid(path, f"`{path}` must not be empty.")
    if high is not None and len(value) > high:
        raise invalid(path, f"`{path}` must have at most {high} characters.")
    return value


def integer(value: Any, path: str, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`."""
    if type(value) is not int:
        if type(value) is float and value.is_integer() and low <= value <= high:
            return int(value)
        raise invalid(path, f"`{path}` must be a whole number from {low} to {high}.")
    if not low <= value <= high:
        raise invalid(path, f"`{path}` must be a whole number from {low} to {high}.")
    return value


def number(value: Any, path: str, low: float, high: float) -> float:
    """Return a number from `low` to `high`."""
    if (type(value) is not float and type(value) is not int) or not low <= value <= high:
        raise invalid(path, f"`{path}` must be a number from {low:g} to {high:g}.")
    return float(value)


def boolean(value: Any, path: str) -> bool:
    """Return true or false."""
    if type(value) is not bool:
        raise invalid(path, f"`{path}` must be true or false.")
    return value


def array(value: Any, path: str, *, low: int = 0, high: int | None = None) -> list[Any]:
    """Return an array of `low` to `high` elements."""
    if type(value) is not list:
        raise invalid(path, f"`{path}` must be an array.")
    if len(value) < low:
        raise invalid(path, f"`{path}` must have at least {low} element{'s' if low > 1 else ''}.")
    if high is not None and len(value) > high:
        raise invalid(path, f"`{path}` must have at most {high} elements.")
    return value


def obj(value: Any, path: str) -> dict[str, Any]:
    """Return a JSON object."""
    if type(value) is not dict:
        raise invalid(path, f"`{path}` must be an object.")
    return value


def one_of(value: Any, path: str, allowed: frozenset[str]) -> str:
    """Return one of the allowed words."""
    if type(value) is not str or value not in allowed:
        words = ", ".join(f"`{word}`" for word in sorted(allowed))
        raise invalid(path, f"`{path}` must be one of {words}.")
    return value


def required_text(document: dict[str, Any], name: str, path: str, *, high: int | None = None) -> str:
    """Return a string field that must be there and not be empty."""
    value = document.get(name)
    if value is None:
        raise missing(f"{path}.{name}" if path else name)
    return text(value, f"{path}.{name}" if path else name, low=1, high=high)


def tool_name(value: Any, path: str) -> str:
    """Return a tool's name: 1 to 64 letters, digits, underscores and hyphens."""
    if type(value) is not str or TOOL_NAME.fullmatch(value) is None:
        raise invalid(path, f"`{path}` must have 1 to 64 characters: letters, digits, underscores and hyphens.")
    return value
