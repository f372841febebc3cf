"""Who holds a secret: answered from memory where it can be, from the store where it must be, and never from the past.

What is remembered is forgotten when its key changes, on whichever node; a read of the store that a change overtook is
not remembered but repeated. A node that lost sight of the changes lets nobody in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from tokendance.credentials import SECRET_LENGTH, check_form
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.changes import Change, ChangeKind
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.cache import SharedReads, TimedCache
from tokendance_server.domain.keys.key import Key, KeyState
from tokendance_server.domain.keys.last_use import LastUses, Redigest
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.store import KeyStore
from tokendance_server.domain.names import child_name, organization_name
from tokendance_server.domain.principals import Principal

# Unknown secrets are cheap to make up, so what is remembered of them never takes room from known ones.
_MOST_UNKNOWN = 10_000
_UNKNOWN_S = 5.0


@dataclass(slots=True)
class _Verdict:
    """What is known of one secret: who its holder is, until when it works, or why it does not."""

    principal: Principal
    expire_time: datetime | None
    rotated_out: bool
    refusal: ErrorReason.ValueType | None
    stopped_with_organization: bool = False
    # Until when, in monotonic time, another use of the key tells nothing new.
    noted_until: float = 0.0


class _Reading:
    """One read of the store, and what changed while it ran."""

    __slots__ = ("changed", "everything")

    def __init__(self) -> None:
        self.changed: set[str] = set()
        self.everything = False

    def missed(self, key: Key | None) -> bool:
        """Tell whether what was read may be the state of before a change."""
        return self.everything or (bool(self.changed) if key is None else key.id in self.changed)


class Verifier:
    """Checks secrets. At most `cache_size` answers are kept, each for at most `cache_s` seconds.

    `sighted` tells whether changes made on other nodes are seen, `organization_works` whether the organization of an id
    is not suspended, `excluded_tags` which routes its policy excludes. `uses` learns once a minute of each key whose
    secret was let in, and of digests under old peppers.
    """

    def __init__(
        self,
        store: KeyStore,
        peppers: PepperRing,
        clock: Clock,
        sighted: Callable[[], bool],
        *,
        cache_size: int = 100_000,
        cache_s: float = 300.0,
        organization_works: Callable[[str], Awaitable[bool]] | None = None,
        excluded_tags: Callable[[str], Awaitable[Collection[str]]] | None = None,
        uses: LastUses | None = None,
    ) -> None:
        self._store = store
        self._uses = uses
        self._organization_works = organization_works
        self._excluded_tags = excluded_tags
        self._peppers = peppers
        self._clock = clock
        self._sighted = sighted
        self._known: TimedCache[_Verdict] = TimedCache(cache_size, cache_s)
        self._unknown: TimedCache[bool] = TimedCache(min(cache_size, _MOST_UNKNOWN), min(cache_s, _UNKNOWN_S))
        self._reads: SharedReads[_Verdict | None] = SharedReads()
        self._readings: set[_Reading] = set()

    def verify_cached(self, secret: str) -> Principal | None:
        """Return the holder of a secret where the answer is at hand, and None where `verify` must be asked.

        Raises key_expired, key_revoked, key_suspended and key_store_unavailable.
        """
        # The answer is found by digest, so that no secret stays in memory.
        if len(secret) != SECRET_LENGTH or not secret.isascii():
            return None
        now = self._clock.monotonic()
        verdict = self._known.get(self._peppers.digest(secret), now)
        if verdict is None:
            return None
        self._require_sight()
        principal = self._admit(verdict)
        if verdict.noted_until <= now:
            self._note(verdict, now)
        return principal

    async def verify(self, secret: str) -> Principal:
        """Return the holder of a secret that works now.

        Raises invalid_api_key and its like for what is no secret of ours, without asking the store; invalid_api_key
        for an unknown secret; key_expired, key_revoked and key_suspended; key_store_unavailable.
        """
        check_form(secret)
        self._require_sight()
        digest = self._peppers.digest(secret)
        asked = self._clock.monotonic()
        verdict = self._known.get(digest, asked)
        if verdict is None and self._unknown.get(digest, asked) is None:
            verdict = await self._reads.read(digest, lambda: self._look_up(secret, digest))
        if verdict is None:
            raise _unknown_secret()
        principal = self._admit(verdict)
        self._note(verdict, asked)
        return principal

    async def check(self, secret: str) -> tuple[Key | None, GatewayError | None]:
        """Return the key that a secret belongs to, if any, and why the secret does not work now, if so.

        Asks the store each time.
        """
        try:
            check_form(secret)
        except GatewayError as error:
            return None, error
        key = await self._store.find(self._peppers.digests(secret))
        if key is None:
            return None, _unknown_secret()
        try:
            self._admit(await self._judge(key, self._peppers.digests(secret)))
        except GatewayError as error:
            return key, error
        return key, None

    async def refusal(self, principal: Principal) -> GatewayError | None:
        """Return why the secret that a caller came with works no more, or None. Asks the store each time."""
        key = await self._store.get(principal.key_id)
        if key is None:
            return _unknown_secret()
        if key.state in _REFUSALS:
            return _refused(_REFUSALS[key.state])
        secret = next((one for one in key.secrets if one.create_time == principal.secret_time), None)
        if secret is None:
            return GatewayError(
                errors_pb2.ERROR_REASON_KEY_EXPIRED,
                "This secret was replaced by a rotation; ask whoever rotates the key for the new one.",
                origin="caller",
            )
        try:
            self._admit(await self._judge(key, [secret.digest]))
        except GatewayError as error:
            return error
        return None

    async def holder(self, key_id: str) -> Principal | None:
        """Return the caller that a key stands for, or None where there is no such key. Asks the store each time.

        Raises key_expired, key_revoked, key_suspended and key_store_unavailable.
        """
        self._require_sight()
        key = await self._store.get(key_id)
        if key is None or not key.secrets:
            return None
        return self._admit(await self._judge(key, [key.secrets[0].digest]))

    def forget(self, key_id: str) -> None:
        """Ask the store anew for a key that changed."""
        self._known.drop(key_id)
        # A secret that was unknown may be this key's new one.
        self._unknown.clear()
        for reading in self._readings:
            reading.changed.add(key_id)

    def changed(self, change: Change) -> None:
        """Forget the key that a change names, or every key of the organization that it names or whose policy it is."""
        if change.kind in (ChangeKind.ORGANIZATION, ChangeKind.POLICY):
            self.forget_organization(change.name.removesuffix("/policy"))
        else:
            self.forget(change.name.rpartition("/")[2])

    def forget_organization(self, name: str) -> None:
        """Ask the store anew for every key of `organizations/{organization}`."""
        self._known.drop_where(lambda verdict: verdict.principal.organization == name)
        for reading in self._readings:
            reading.everything = True

    def everything_changed(self) -> None:
        """Ask the store anew for every key."""
        self._known.clear()
        self._unknown.clear()
        for reading in self._readings:
            reading.everything = True

    async def _look_up(self, secret: str, digest: bytes) -> _Verdict | None:
        digests = self._peppers.digests(secret)
        while True:
            # Age counts from before the read: what changes while it runs must not live longer than it may.
            asked = self._clock.monotonic()
            with self._reading() as reading:
                key = await self._store.find(digests)
                verdict = None if key is None else await self._judge(key, digests)
            if not reading.missed(key):
                break
        if key is None or verdict is None:
            self._unknown.put(digest, True, asked)
            return None
        self._known.put(digest, verdict, asked, key.id)
        if self._uses is not None:
            for kept in key.secrets:
                # Found under an older pepper: the next time it is found under the one in force.
                if kept.digest in digests and kept.digest != digest:
                    self._uses.redigest(Redigest(kept.digest, digest, self._peppers.active_id))
        return verdict

    async def _judge(self, key: Key, digests: Sequence[bytes]) -> _Verdict:
        verdict = self._verdict(key, digests)
        if self._organization_works is not None and not await self._organization_works(key.organization_id):
            verdict.stopped_with_organization = True
        if self._excluded_tags is not None and (tags := await self._excluded_tags(key.organization_id)):
            principal = verdict.principal
            verdict.principal = replace(principal, excluded_route_tags=principal.excluded_route_tags.union(tags))
        return verdict

    @contextmanager
    def _reading(self) -> Iterator[_Reading]:
        reading = _Reading()
        self._readings.add(reading)
        try:
            yield reading
        finally:
            self._readings.remove(reading)

    def _note(self, verdict: _Verdict, now: float) -> None:
        if self._uses is not None:
            principal = verdict.principal
            organization_id = principal.organization.removeprefix("organizations/")
            verdict.noted_until = now + self._uses.note(organization_id, principal.key_id)

    def _require_sight(self) -> None:
        if not self._sighted():
            raise GatewayError(
                errors_pb2.ERROR_REASON_KEY_STORE_UNAVAILABLE,
                "This node cannot tell now which keys were changed, so it lets nobody in; try again.",
            )

    @staticmethod
    def _verdict(key: Key, digests: Sequence[bytes]) -> _Verdict:
        secret = next(secret for secret in key.secrets if secret.digest in digests)
        ends = [time for time in (key.expire_time, secret.expire_time) if time is not None]
        return _Verdict(
            principal=_principal(key, secret.create_time),
            expire_time=min(ends, default=None),
            rotated_out=bool(ends) and secret.expire_time == min(ends),
            refusal=_REFUSALS.get(key.state),
        )

    def _admit(self, verdict: _Verdict) -> Principal:
        if verdict.refusal is not None:
            raise _refused(verdict.refusal)
        if verdict.expire_time is not None and verdict.expire_time <= self._clock.now():
            raise _expired(verdict)
        if verdict.stopped_with_organization:
            raise GatewayError(
                errors_pb2.ERROR_REASON_KEY_SUSPENDED,
                "The organization of this API key is suspended; ask the gateway's administrator.",
                origin="caller",
            )
        return verdict.principal


_REFUSALS = {
    KeyState.REVOKED: errors_pb2.ERROR_REASON_KEY_REVOKED,
    KeyState.SUSPENDED: errors_pb2.ERROR_REASON_KEY_SUSPENDED,
    # No secret of a pending key was ever shown, so one that fits was not come by honestly.
    KeyState.PENDING: errors_pb2.ERROR_REASON_INVALID_API_KEY,
}
_SENTENCES = {
    errors_pb2.ERROR_REASON_KEY_REVOKED: "This API key was revoked; use its successor, or ask its owner why.",
    errors_pb2.ERROR_REASON_KEY_SUSPENDED: "This API key is suspended; ask an administrator to resume it.",
    errors_pb2.ERROR_REASON_INVALID_API_KEY: "This API key is not known here; check that it is the right one.",
}


def _unknown_secret() -> GatewayError:
    return _refused(errors_pb2.ERROR_REASON_INVALID_API_KEY)


def _refused(reason: ErrorReason.ValueType) -> GatewayError:
    return GatewayError(reason, _SENTENCES[reason], origin="caller")


def _expired(verdict: _Verdict) -> GatewayError:
    assert verdict.expire_time is not None
    when = verdict.expire_time.isoformat(timespec="seconds").replace("+00:00", "Z")
    what = "This secret was replaced by a rotation and ended" if verdict.rotated_out else "This API key expired"
    return GatewayError(
        errors_pb2.ERROR_REASON_KEY_EXPIRED,
        f"{what} at {when}; ask whoever rotates the key for the new one.",
        metadata={"expire_time": when},
        origin="caller",
    )


def _principal(key: Key, secret_time: datetime) -> Principal:
    return Principal(
        kinds=frozenset({access_pb2.CALLER_KIND_API_KEY}),
        name=key.name,
        organization=organization_name(key.organization_id),
        key_id=key.id,
        owner=child_name(key.organization_id, "members", key.owner_id),
        team=child_name(key.organization_id, "teams", key.team_id),
        allowed_models=frozenset(key.allowed_models),
        allowed_networks=key.allowed_networks,
        labels=key.labels,
        excluded_route_tags=frozenset(key.excluded_route_tags),
        secret_time=secret_time,
    )
