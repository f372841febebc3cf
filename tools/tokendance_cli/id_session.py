"""The access token of a context: from the environment, from a program's own secret, or from a sign-in, renewed in time.

Tokens are kept in one file for each context, mode 0600. Two commands at once renew a session once.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokendance_cli.contexts import Context, config_folder, read_private_json, write_private_json
from tokendance_cli.failures import FAILED, CommandError
from tokendance_cli.openid import Issuer, RefusedError, Tokens

TOKEN_VARIABLE = "TOKENDANCE_ID_TOKEN"  # noqa: S105 - the name of a variable
CLIENT_ID_VARIABLE = "TOKENDANCE_ID_CLIENT_ID"
CLIENT_SECRET_VARIABLE = "TOKENDANCE_ID_CLIENT_SECRET"  # noqa: S105 - the name of a variable
# What is about to end is renewed before it is sent: clocks differ, and calls take a while.
_MARGIN_S = 30.0


def access_token(context: Context) -> str:
    """Return a token that is good for now, or an empty text where a certificate is the credential.

    Raises CommandError where somebody has to sign in first.
    """
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        return given
    machine = machine_of(context)
    if machine is not None:
        return _of_machine(*machine).access_token
    if context.certificate and not context.issuer:
        return ""
    return _of_person(context).access_token


def machine_of(context: Context) -> tuple[Context, str] | None:
    """Return the context and secret of the program that the environment names, or None."""
    secret = os.environ.get(CLIENT_SECRET_VARIABLE, "").strip()
    if not secret:
        return None
    return replace(context, client_id=os.environ.get(CLIENT_ID_VARIABLE, "").strip() or context.client_id), secret


def sign_in_machine(context: Context, secret: str) -> Tokens:
    """Ask for a token of the program itself, and keep it."""
    with _locked(context.name):
        tokens = Issuer(context).client_credentials(secret)
        _write(context, tokens, "client_credentials")
    return tokens


def keep(context: Context, tokens: Tokens) -> None:
    """Keep what a person's sign-in brought."""
    with _locked(context.name):
        _write(context, tokens, "person")


def forget(context_name: str) -> str:
    """Remove what is kept; return the refresh token that was, or an empty text."""
    with _locked(context_name):
        kept = read_private_json(_path(context_name)) or {}
        _path(context_name).unlink(missing_ok=True)
    return str(kept.get("refresh_token", ""))


def _of_machine(context: Context, secret: str) -> Tokens:
    kept = _read(context, "client_credentials")
    return kept if kept is not None and _lasts(kept) else sign_in_machine(context, secret)


def _of_person(context: Context) -> Tokens:
    kept = _read(context)
    if kept is None:
        raise _sign_in_first(context, "You are not signed in")
    if _lasts(kept):
        return kept
    with _locked(context.name):
        # Another command may have renewed it meanwhile, and a refresh token often works only once.
        kept = _read(context) or kept
        if _lasts(kept):
            return kept
        if not kept.refresh_token:
            raise _sign_in_first(context, "Your sign-in has ended")
        try:
            renewed = Issuer(context).refresh(kept.refresh_token)
        except RefusedError as error:
            if error.error != "invalid_grant":
                raise
            raise _sign_in_first(context, "Your sign-in has ended") from error
        renewed = replace(
            renewed,
            refresh_token=renewed.refresh_token or kept.refresh_token,
            id_claims=renewed.id_claims or kept.id_claims,
        )
        _write(context, renewed, "person")
    return renewed


def _sign_in_first(context: Context, why: str) -> CommandError:
    way = "tokendance login" if context.issuer else f"set {TOKEN_VARIABLE}, or name an issuer in the context"
    return CommandError(f"{why} at {context.server} (context {context.name}).", f"Do so: {way}.", exit_code=FAILED)


def _lasts(tokens: Tokens) -> bool:
    return tokens.expires_at - _MARGIN_S > time.time()


def _read(context: Context, grant: str = "") -> Tokens | None:
    """Return what is kept for a context, if it is of its issuer and program (and of a `grant`)."""
    kept = read_private_json(_path(context.name))
    if kept is None or (kept.get("issuer"), kept.get("client_id")) != (context.issuer, context.client_id):
        return None
    if grant and kept.get("grant") != grant:
        return None
    claims: Any = kept.get("id_claims")
    return Tokens(
        str(kept.get("access_token", "")),
        float(kept.get("expires_at", 0)),
        str(kept.get("refresh_token", "")),
        claims if isinstance(claims, dict) else {},
    )


def _write(context: Context, tokens: Tokens, grant: str) -> None:
    shown = {name: tokens.id_claims[name] for name in ("sub", "email", "name") if name in tokens.id_claims}
    document = {
        "issuer": context.issuer,
        "client_id": context.client_id,
        "grant": grant,
        "access_token": tokens.access_token,
        "expires_at": tokens.expires_at,
        "refresh_token": tokens.refresh_token,
        "id_claims": shown,
    }
    write_private_json(_path(context.name), document)


def _path(context_name: str) -> Path:
    return config_folder() / "tokens" / f"{context_name}.json"


@contextmanager
def _locked(context_name: str) -> Iterator[None]:
    """Let one command at a time change what is kept for a context."""
    folder = config_folder() / "tokens"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / f".{context_name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CommandError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
