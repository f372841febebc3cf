"""Which RPC a method and a path mean: read from `google.api.http` on the RPCs, with its path templates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

PREFIX = "/admin/v1/"
"""Where every path of the administration begins."""
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The methods that a binding may have."""

_VARIABLE = re.compile(r"\{([a-z_.]+)=([^}]+)\}")
# A colon begins the verb of a custom method; only `**`, which comes last and alone, may hold one.
_ONE_SEGMENT = "[^/:]+"
_SEGMENTS = ".+"


@dataclass(frozen=True, slots=True)
class Binding:
    """One way to call an RPC. `body` is the request's field that the body fills, `*` for all of it, empty for none."""

    verb: str
    template: str
    pattern: re.Pattern[str]
    variables: tuple[str, ...]
    method: MethodDescriptor
    body: str

    @property
    def rpc(self) -> str:
        """The RPC's path over gRPC: `/package.Service/Method`."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    def values(self, path: str) -> dict[str, str] | None:
        """Return the variables of a raw path, decoded once, or None where it is another one. Raises not_found."""
        match = self.pattern.fullmatch(path)
        if match is None:
            return None
        return {name: _decoded(value) for name, value in zip(self.variables, match.groups(), strict=True)}


class Bindings:
    """All bindings of some files. Templates are tried in the order of their RPCs; no two match one path."""

    def __init__(self, files: Sequence[FileDescriptor]) -> None:
        self._bindings = tuple(_read(files))

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings)

    def find(self, verb: str, path: str) -> tuple[Binding, dict[str, str]]:
        """Return the binding of a raw path and its variables. HEAD is GET.

        Raises not_found, and method_not_allowed with the methods in its metadata.
        """
        wanted = "GET" if verb == "HEAD" else verb
        allowed = set()
        for binding in self._bindings:
            values = binding.values(path)
            if values is None:
                continue
            if binding.verb == wanted:
                return binding, values
            allowed.add(binding.verb)
        if not allowed:
            raise _not_found()
        listed = ", ".join(sorted(allowed))
        raise GatewayError(
            errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED,
            f"This path takes {listed}.",
            metadata={"allow": listed},
            origin="caller",
        )


def _read(files: Sequence[FileDescriptor]) -> Iterator[Binding]:
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                options = method.GetOptions()
                if options.HasExtension(annotations_pb2.http):
                    rule = options.Extensions[annotations_pb2.http]
                    yield _binding(method, rule)
                    for more in rule.additional_bindings:
                        yield _binding(method, more)


def _binding(method: MethodDescriptor, rule: http_pb2.HttpRule) -> Binding:
    verb = rule.WhichOneof("pattern")
    template = getattr(rule, verb) if verb else ""
    if verb is None or verb.upper() not in VERBS or not template.startswith(PREFIX):
        raise ValueError(f"{method.full_name} has a binding that is none of the administration's: {rule}")
    variables = tuple(name for name, _ in _VARIABLE.findall(template))
    return Binding(verb.upper(), template, re.compile(_pattern(template)), variables, method, rule.body)


def _pattern(template: str) -> str:
    parts = []
    end = 0
    for variable in _VARIABLE.finditer(template):
        parts.append(re.escape(template[end : variable.start()]))
        segments = (_segment(one) for one in variable[2].split("/"))
        parts.append(f"({'/'.join(segments)})")
        end = variable.end()
    parts.append(re.escape(template[end:]))
    return "".join(parts)


def _segment(text: str) -> str:
    return {"*": _ONE_SEGMENT, "**": _SEGMENTS}.get(text) or re.escape(text)


def _decoded(value: str) -> str:
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise _not_found() from None


def _not_found() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_NOT_FOUND,
        f"There is nothing at this path; GET {PREFIX}openapi.json tells what there is.",
        origin="caller",
    )
