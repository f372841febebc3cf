"""Named contexts: which gateway the administration commands speak to over TCP, and who signs people in there.

They stand in one file of mode 0600 below the user's configuration; tokens stand in files of their own beside it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tokendance_cli.announcement import is_local
from tokendance_cli.failures import USAGE, CommandError

CONTEXT_VARIABLE = "TOKENDANCE_CONTEXT"
DEFAULT_SCOPE = "openid offline_access"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FILE = "contexts.json"


@dataclass(frozen=True, slots=True)
class Context:
    """One gateway. `server` is `HOST:PORT` of its gRPC listener, `ca` a file that vouches for it (empty: the system's).

    `certificate` and `key` are files that a listener with a client_ca asks for; without an issuer they are the
    credential, too: that of a service.
    `issuer`, `client_id`, `audience` and `scope` are what its identity provider is asked with; without an issuer,
    tokens come from the environment. `plaintext` is for a server on this machine that speaks no TLS.
    """

    name: str
    server: str
    ca: str = ""
    plaintext: bool = False
    certificate: str = ""
    key: str = ""
    issuer: str = ""
    client_id: str = ""
    audience: str = ""
    scope: str = DEFAULT_SCOPE


@dataclass(frozen=True, slots=True)
class Contexts:
    """All of them by name, and which one is used where none is named; empty for the node of this machine."""

    known: Mapping[str, Context] = field(default_factory=dict)
    current: str = ""


def config_folder() -> Path:
    """Return the folder of this user's configuration, which may not be there."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "tokendance"


def load() -> Contexts:
    """Return what the file holds; raises CommandError where it cannot be read."""
    path = config_folder() / _FILE
    document = read_private_json(path)
    if document is None:
        return Contexts()
    try:
        names = {one.name for one in fields(Context)}
        known = {
            name: Context(name=name, **{key: value for key, value in entry.items() if key in names - {"name"}})
            for name, entry in document["contexts"].items()
        }
        return Contexts(known, str(document.get("current", "")))
    except (KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"The file {path} holds no contexts; remove it and set them again.") from error


def save(contexts: Contexts) -> None:
    """Write the file anew."""
    entries = {
        name: {key: value for key, value in asdict(one).items() if key != "name"}
        for name, one in sorted(contexts.known.items())
    }
    write_private_json(config_folder() / _FILE, {"current": contexts.current, "contexts": entries})


def named(name: str) -> Context:
    """Return the context of a name; raises CommandError where there is none."""
    contexts = load()
    if name not in contexts.known:
        there = ", ".join(sorted(contexts.known)) or "none"
        raise CommandError(
            f"There is no context {name!r}; there are: {there}.",
            "Make it with `tokendance context set NAME --server HOST:PORT …`.",
            exit_code=USAGE,
        )
    return contexts.known[name]


def checked(context: Context) -> Context:
    """Return a context as given; raises CommandError for what cannot be, or would send tokens in the clear."""
    if not _NAME.fullmatch(context.name):
        raise CommandError(
            "A context's name has 1 to 63 letters, digits, dots, dashes and underscores.", exit_code=USAGE
        )
    host, _, port = context.server.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65535 or "/" in context.server:
        raise CommandError("A server is given as HOST:PORT, that of its gRPC listener.", exit_code=USAGE)
    if context.plaintext and not is_local(context.server):
        raise CommandError(
            "Without TLS a token can be read on the way; --plaintext is for a server on this machine.", exit_code=USAGE
        )
    if context.plaintext and (context.ca or context.certificate):
        raise CommandError("Certificates and --plaintext exclude each other.", exit_code=USAGE)
    if bool(context.certificate) != bool(context.key):
        raise CommandError("--client-certificate and --client-key go together.", exit_code=USAGE)
    if context.issuer and not (
        context.issuer.startswith("https://") or (context.issuer.startswith("http://") and is_local(context.issuer))
    ):
        raise CommandError("An issuer is an https:// URL (http:// on this machine only).", exit_code=USAGE)
    return context


def read_private_json(path: Path) -> dict[str, Any] | None:
    """Return the object that a file of this user's alone holds, or None where there is no file; raises CommandError."""
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise CommandError(f"Others may read {path}: run `chmod 600 {path}`, and sign in again.")
            document = json.load(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"The file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CommandError(f"The file {path} is damaged; remove it and begin anew.") from error
    if not isinstance(document, dict):
        raise CommandError(f"The file {path} is damaged; remove it and begin anew.")
    return document


def write_private_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write an object, mode 0600 in a folder of mode 0700, whole or not at all; raises CommandError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandError(f"The file {path} cannot be written: {error.strerror}.") from error
