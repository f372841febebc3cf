"""The key of the development issuer in a data directory, and what commands sign with it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from tokendance_cli.failures import FAILED, USAGE, CommandError

if TYPE_CHECKING:
    from tokendance_server.domain.identity.development import DevelopmentKey
    from tokendance_server.domain.identity.roles import Grant


class RoleName(StrEnum):
    """The roles that somebody may have."""

    PLATFORM_ADMIN = "platform_admin"
    ORGANIZATION_ADMIN = "organization_admin"
    MEMBER = "member"
    AUDITOR = "auditor"
    SERVICE = "service"


def grant_of(role: RoleName, organization: str, member: str) -> tuple[Grant, str]:
    """Return a role where it holds, and the resource name of the member; ids alone will do.

    Raises CommandError where they do not go together.
    """
    from tokendance_server.domain.identity.roles import Grant

    if organization and "/" not in organization:
        organization = f"organizations/{organization}"
    if member and "/" not in member:
        member = f"{organization}/members/{member}"
    try:
        grant = Grant(role.value, organization)
    except ValueError as error:
        raise CommandError(f"{str(error).capitalize()}.", exit_code=USAGE) from error
    if member and not (organization and member.startswith(f"{organization}/members/")):
        raise CommandError("A member belongs to an organization: name it with --organization.", exit_code=USAGE)
    return grant, member


def read_development_key(directory: Path) -> DevelopmentKey:
    """Return the key of a data directory; raises CommandError where it has none that can be used."""
    from tokendance_server.domain.identity.development import KEY_FILE, DevelopmentKey

    try:
        return DevelopmentKey((directory / KEY_FILE).read_bytes())
    except FileNotFoundError as error:
        raise CommandError(
            f"The data directory {directory} has no development issuer.",
            "A node makes its key at start, if it listens on loopback only, has no [server.identity] issuer and no "
            "database_url. Name its directory: `tokendance --data-dir DIR …`.",
            exit_code=FAILED,
        ) from error
    except OSError as error:
        raise CommandError(f"The data directory {directory} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CommandError(f"The key of the development issuer in {directory} cannot be used: {error}.") from error


def sign_in_link(internal_url: str, key: DevelopmentKey, grant: Grant, member: str = "") -> str:
    """Return a link that opens one session in the console of a node, within five minutes."""
    from tokendance_server.domain.clock import SystemClock

    token = key.sign_link(grant, SystemClock().now(), member=member, subject=member or "developer")
    return f"{internal_url.rstrip('/')}/console/link/{token}"
