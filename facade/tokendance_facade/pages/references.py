"""The references: the REST API from its OpenAPI document, gRPC from the protos' comments, and `/llms.txt` of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import orjson

_SCHEMAS = "#/components/schemas/"
_CALLERS = {
    "anyone": "anybody",
    "api_key": "API key",
    "member": "member",
    "organization_admin": "organization admin",
    "platform_admin": "platform admin",
    "auditor": "auditor",
    "service": "service",
}

_LLMS_KEY = (
    "Send a TokenDance API key (`tdk_…`) in `Authorization: Bearer`. Never put a real key into code, configuration, "
    "issues or logs: read it from the environment variable TOKENDANCE_API_KEY."
)
_LLMS_ERRORS = (
    "Decide by `error.code`, or by the header `x-tokendance-error-code`. Retry only where the table says so, and wait "
    "as `Retry-After` says; `x-should-retry: false` means that a repeat cannot help."
)


class TypeView(NamedTuple):
    """A type as a reader sees it: words, and the messages among them by name."""

    words: str
    names: tuple[str, ...]


class FieldView(NamedTuple):
    """A field, a parameter or a header."""

    name: str
    type: TypeView
    required: bool
    description: str


class OperationView(NamedTuple):
    """One operation."""

    id: str
    verb: str
    path: str
    summary: str
    description: str
    open: bool
    parameters: tuple[FieldView, ...]
    body: str
    answers: tuple[tuple[str, str], ...]
    failures: tuple[tuple[str, tuple[str, ...]], ...]


class SchemaView(NamedTuple):
    """One message of the REST API."""

    name: str
    description: str
    type: TypeView
    fields: tuple[FieldView, ...]


@cache
def openapi_bytes() -> bytes:
    """Return the OpenAPI document of the public listener, which `make gen` writes."""
    return orjson.dumps(orjson.loads(files("tokendance_facade.pages").joinpath("data", "openapi.json").read_bytes()))


def reference() -> dict[str, Any]:
    """Return the error table and the gRPC API with their comments, which `make gen` writes."""
    document: dict[str, Any] = orjson.loads(
        files("tokendance_facade.pages").joinpath("data", "reference.json").read_bytes()
    )
    return document


@cache
def grpc_names() -> frozenset[str]:
    """Return the names of the files of the gRPC API, such as `keys_service`."""
    return frozenset(file["name"] for file in reference()["files"])


def grpc_values(name: str) -> dict[str, Any]:
    """Return what the page of one file of the gRPC API shows. Raises KeyError for an unknown one."""
    file = {one["name"]: one for one in reference()["files"]}[name]
    contents = [(service["name"], service["name"]) for service in file["services"]]
    contents += [
        (f"{service['name']}.{method['name']}", method["name"])
        for service in file["services"]
        for method in service["methods"]
    ]
    contents += [(part, part.capitalize()) for part in ("messages", "enums") if file[part]]
    title = file["services"][0]["name"] if file["services"] else f"{name}.proto"
    return {"file": file, "title": title, "contents": contents}


def rest_values() -> dict[str, Any]:
    """Return what the page of the REST API shows."""
    document = orjson.loads(openapi_bytes())
    groups = [
        (tag["name"], tag["description"], tuple(_operations(document["paths"], tag["name"])))
        for tag in document["tags"]
    ]
    contents = [(f"tag-{place}", name) for place, (name, _, _) in enumerate(groups, 1)]
    return {
        "groups": groups,
        "schemas": [_schema(name, schema) for name, schema in document["components"]["schemas"].items()],
        "shared_parameters": [_parameter(one) for one in document["components"]["parameters"].values()],
        "contents": [*contents, ("shared", "Shared headers"), ("schemas", "Messages")],
    }


def grpc_index() -> list[dict[str, Any]]:
    """Return the files of the gRPC API, services first."""
    return sorted(reference()["files"], key=lambda file: (not file["services"], file["name"]))


def refusals() -> list[dict[str, Any]]:
    """Return the rows of the error table that are about quotas and rates."""
    return [row for family in reference()["errors"] if family["name"] == "quota" for row in family["rows"]]


def callers(kinds: Sequence[str]) -> str:
    """Return who may call an RPC, in words."""
    return ", ".join(_CALLERS.get(kind, kind) for kind in kinds)


@cache
def llms_text(brand: str, base_url: str, site_url: str) -> str:
    """Return what a language model needs to know to use the gateway, as `/llms.txt`."""
    document = orjson.loads(openapi_bytes())
    lines = [
        f"# {brand}",
        "",
        f"> One entry point to models under one kind of key. Base URL: {base_url}. {_LLMS_KEY}",
        "",
        "## Pages",
        "",
        f"- [Quickstart]({site_url}/): credentials, environment variables, examples in curl, PowerShell, Python, Node",
        f"- [Keys]({site_url}/keys): asking for keys, rotation, what to do when one got out",
        f"- [Limits]({site_url}/limits): windows, headers, resets, refusals",
        f"- [Models]({site_url}/models): the public catalogue, live",
        f"- [Errors]({site_url}/errors): every code with what to check first and whether to retry",
        f"- [Status]({site_url}/status): what works now",
        f"- [REST reference]({site_url}/reference), as [OpenAPI]({site_url}/openapi.json)",
        f"- [gRPC reference]({site_url}/reference/grpc)",
        "",
        "## REST",
        "",
    ]
    for path, verbs in document["paths"].items():
        lines += [f"- `{verb.upper()} {path}`: {operation['summary']}" for verb, operation in verbs.items()]
    lines += [
        "",
        "## Errors",
        "",
        _LLMS_ERRORS,
        "",
    ]
    for family in reference()["errors"]:
        lines += [
            f"- `{row['code']}` ({row['http_status']}{', retryable' if row['retryable'] else ''}): {row['check_first']}"
            for row in family["rows"]
        ]
    return "\n".join([*lines, ""])


def _operations(paths: Mapping[str, Any], tag: str) -> Iterator[OperationView]:
    for path, verbs in paths.items():
        for verb, operation in verbs.items():
            if tag not in operation["tags"]:
                continue
            responses = operation["responses"]
            content = operation.get("requestBody", {}).get("content", {})
            yield OperationView(
                id=operation["operationId"],
                verb=verb.upper(),
                path=path,
                summary=operation["summary"],
                description=operation["description"],
                open=operation.get("security") is not None,
                parameters=tuple(_parameter(one) for one in operation.get("parameters", ()) if "$ref" not in one),
                body=next((_name(media["schema"]) for media in content.values()), ""),
                answers=tuple((media, _name(inner["schema"])) for media, inner in responses["200"]["content"].items()),
                failures=tuple(
                    (status, tuple(code.strip("`") for code in answer["description"].split(", ")))
                    for status, answer in responses.items()
                    if status != "200"
                ),
            )


def _parameter(one: Mapping[str, Any]) -> FieldView:
    return FieldView(one["name"], _type(one["schema"]), bool(one.get("required")), one.get("description", ""))


def _schema(name: str, schema: Mapping[str, Any]) -> SchemaView:
    parts = schema.get("allOf", (schema,))
    fields: list[FieldView] = []
    for part in parts:
        required = frozenset(part.get("required", ()))
        fields += [
            FieldView(field, _type(inner), field in required, inner.get("description", ""))
            for field, inner in part.get("properties", {}).items()
        ]
    return SchemaView(name, schema.get("description", ""), _type(schema), tuple(fields))


def _type(schema: Mapping[str, Any]) -> TypeView:
    """Return a schema in words; what it refers to is named beside them."""
    if "$ref" in schema:
        return TypeView("", (_name(schema),))
    for key in ("oneOf", "allOf"):
        if key in schema:
            parts = [_type(part) for part in schema[key]]
            words = " or ".join(dict.fromkeys(part.words for part in parts if part.words and part.words != "null"))
            return TypeView(words, tuple(name for part in parts for name in part.names))
    kind = schema.get("type", "")
    words = " or ".join(one for one in kind if one != "null") if isinstance(kind, list) else str(kind)
    if "enum" in schema:
        words = "one of " + ", ".join(str(one) for one in schema["enum"] if one is not None)
    elif "const" in schema:
        words = f"always {schema['const']}"
    elif "minimum" in schema and "maximum" in schema and schema["maximum"] < 1_000_000:
        words += f", {schema['minimum']} to {schema['maximum']}"
    if "items" in schema:
        inner = _type(schema["items"])
        return TypeView(f"array of {inner.words}".rstrip() if inner.words else "array of", inner.names)
    return TypeView(words, ())


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).removeprefix(_SCHEMAS)
