"""The credentials of providers: which are taken out because their provider refuses them, and which rest for a while."""

from __future__ import annotations

from dataclasses import dataclass

from tokendance_server.domain.catalogue.models import Caps
from tokendance_server.domain.upstream import Upstream


@dataclass(frozen=True, slots=True)
class CredentialRules:
    """When a credential is taken out: at once where it is refused, and where several organizations were forbidden.

    One call every `recheck_s` finds whether it works again.
    """

    forbidden_organizations: int = 3
    recheck_s: float = 600.0
    rest_s: float = 1.0
    longest_rest_s: float = 60.0


class Credential:
    """One credential of one provider, by what tells it from others. Times are monotonic seconds."""

    __slots__ = ("_forbidden", "_rules", "mark", "out_until", "provider", "status")

    def __init__(self, provider: str, mark: str, rules: CredentialRules) -> None:
        self.provider = provider
        self.mark = mark
        self.out_until: float | None = None
        self.status = 0
        """The HTTP status for which it was taken out."""
        self._rules = rules
        self._forbidden: set[str] = set()

    def works(self, now: float) -> bool:
        """Tell whether it may be used: also where it is out, once it is time to look again."""
        return self.out_until is None or now >= self.out_until

    def begin(self, now: float) -> None:
        """Let a call use it; where it is out, nobody else does until it is time to look once more."""
        if self.out_until is not None:
            self.out_until = now + self._rules.recheck_s

    def succeed(self) -> bool:
        """Take a call that it was good for; returns whether that brought it back."""
        if self._forbidden:
            self._forbidden.clear()
        if self.out_until is None:
            return False
        self.out_until = None
        return True

    def refuse(self, status: int, organization: str, now: float) -> bool:
        """Take a refusal with 401, 402 (429 where there is no credit) or 403; returns whether that took it out.

        A provider also forbids what one caller's prompts ask for, so 403 counts once for each organization.
        """
        if status == 403:
            self._forbidden.add(organization)
            if len(self._forbidden) < self._rules.forbidden_organizations:
                return False
        fresh = self.out_until is None
        self.out_until = now + self._rules.recheck_s
        self.status = status
        return fresh


class Seat:
    """One credential on one route. `rest_until` is when its provider lets it call this model again."""

    __slots__ = ("caps", "credential", "rest_until", "running", "upstream")

    def __init__(self, credential: Credential, upstream: Upstream, caps: Caps, now: float) -> None:
        self.credential = credential
        self.upstream = upstream
        self.caps = caps
        self.rest_until = now
        self.running = 0

    def rest(self, asked_s: float | None, rules: CredentialRules, now: float) -> None:
        """Take that the provider limits its calls of this model."""
        wait_s = rules.rest_s if asked_s is None else min(max(asked_s, rules.rest_s), rules.longest_rest_s)
        self.rest_until = max(self.rest_until, now + wait_s)

    def usable(self, now: float) -> bool:
        """Tell whether a call may use it."""
        return self.rest_until <= now and self.credential.works(now)
