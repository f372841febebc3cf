"""Webhooks as administrators set them up: created, read, changed, deleted, and given new secrets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, quota_service_pb2
from tokendance.ids import new_id
from tokendance_server.domain.audit.events import AUTOMATIC, EventDraft, Origin, event
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.domain.keys.rules import check_printable, check_text, invalid
from tokendance_server.domain.names import ANY_ORGANIZATION, organization_of, subject_of, tenant_of, webhook_of
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.people.rules import check_repeat, failed
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import changes_all, is_platform_admin, reads_all
from tokendance_server.domain.webhooks.seals import WebhookSeals, keeps_old
from tokendance_server.domain.webhooks.signing import new_secret
from tokendance_server.domain.webhooks.target import check_target
from tokendance_server.domain.webhooks.webhook import Webhook, WebhookDraft, WebhookStore

MOST_WEBHOOKS = 20
DEFAULT_PERCENTS = (80, 100)
DEFAULT_OVERLAP = timedelta(hours=24)
_PAGE_SIZE = 100
_BEGINNING = ("", "")


class Webhooks:
    """What is done with webhooks. Every method raises not_found for what is outside the caller's scope."""

    def __init__(
        self, store: WebhookStore, seals: WebhookSeals, egress: EgressPolicy, tokens: PageTokens, clock: Clock
    ) -> None:
        self._store = store
        self._seals = seals
        self._egress = egress
        self._tokens = tokens
        self._clock = clock

    async def create(
        self, caller: Principal, parent: str, draft: WebhookDraft, request_id: str = "", *, origin: Origin = AUTOMATIC
    ) -> tuple[Webhook, str]:
        """Make a webhook; return it and its secret, which is empty for the repeat of a request.

        Raises invalid_request, already_exists for its display name, idempotency_conflict, and failed_precondition
        where the organization has 20.
        """
        organization_id = organization_of(parent, "parent")
        if not changes_all(caller, organization_id) or not await self._store.is_open(organization_id):
            raise _nothing_here("organization", "parent")
        draft = self._checked(draft, organization_id)
        check_printable(request_id, "request_id")
        mark = hashlib.sha256(json.dumps(asdict(draft), sort_keys=True).encode()).digest()
        earlier = await self._store.made_by(organization_id, request_id) if request_id else None
        if earlier is not None:
            check_repeat(earlier.fingerprint, mark)
            return earlier, ""
        await self._require_room(organization_id, draft.display_name)
        secret = new_secret()
        made = Webhook(
            organization_id=organization_id,
            id=new_id("whk"),
            draft=draft,
            sealed_secret="",
            create_time=self._clock.now(),
            create_request_id=request_id,
            fingerprint=mark,
        )
        made = replace(made, sealed_secret=self._seals.seal(made.name, secret))
        told = _event(caller, origin, "create", made.create_time, before=None, after=made)
        if not await self._store.add(made, told):
            # The same request made it at the same moment.
            earlier = await self._store.made_by(organization_id, request_id) if request_id else None
            if earlier is None:
                raise _nothing_here("organization", "parent")
            check_repeat(earlier.fingerprint, mark)
            return earlier, ""
        return made, secret

    async def get(self, caller: Principal, name: str) -> Webhook:
        """Return a webhook."""
        organization_id, webhook_id = webhook_of(name, "name")
        found = await self._store.get(organization_id, webhook_id) if reads_all(caller, organization_id) else None
        if found is None:
            raise _nothing_here()
        return found

    async def page(
        self, caller: Principal, parent: str, *, page_size: int = 0, page_token: str = ""
    ) -> tuple[list[Webhook], str]:
        """Return a page by name, and the token of the next one: empty where this was the last."""
        organization_id = "" if parent == ANY_ORGANIZATION else organization_of(parent, "parent")
        if not organization_id and not is_platform_admin(caller):
            organization_id = tenant_of(caller.organization)
        if not is_platform_admin(caller) and not reads_all(caller, organization_id):
            raise _nothing_here("organization", "parent")
        binding = json.dumps(["webhooks", caller.name, organization_id])
        after = _BEGINNING
        if page_token:
            organization, identity = json.loads(self._tokens.open(page_token, binding))
            after = (organization, identity)
        size = page_size or _PAGE_SIZE
        found = list(await self._store.list(organization_id, after, size + 1))
        if len(found) <= size:
            return found, ""
        last = found[size - 1]
        return found[:size], self._tokens.seal(json.dumps([last.organization_id, last.id]), binding)

    async def update(
        self,
        caller: Principal,
        name: str,
        wanted: WebhookDraft,
        fields: frozenset[str],
        etag: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> Webhook:
        """Take over the named fields of a draft. Raises invalid_request, already_exists and version_conflict."""
        before = await self._changeable(caller, name, "webhook.name")
        _check_etag(before, etag, "webhook.etag")
        changes: dict[str, Any] = {field: getattr(wanted, field) for field in fields}
        draft = self._checked(replace(before.draft, **changes), before.organization_id)
        if draft == before.draft:
            return before
        if draft.display_name != before.draft.display_name:
            await self._require_name_free(before.organization_id, draft.display_name)
        now = self._clock.now()
        after = replace(before, draft=draft, update_time=now, version=before.version + 1)
        if not await self._store.replace(after, _event(caller, origin, "update", now, before=before, after=after)):
            raise _conflict("webhook.etag")
        return after

    async def delete(self, caller: Principal, name: str, etag: str = "", *, origin: Origin = AUTOMATIC) -> None:
        """Delete a webhook; one that is not there is deleted. Raises version_conflict."""
        organization_id, webhook_id = webhook_of(name, "name")
        if not changes_all(caller, organization_id):
            raise _nothing_here()
        found = await self._store.get(organization_id, webhook_id)
        if found is None:
            return
        _check_etag(found, etag, "etag")
        told = _event(caller, origin, "delete", self._clock.now(), before=found, after=None)
        if not await self._store.delete(found, told) and await self._store.get(organization_id, webhook_id):
            raise _conflict("etag")

    async def rotate(
        self,
        caller: Principal,
        name: str,
        overlap: timedelta | None = None,
        etag: str = "",
        request_id: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> tuple[Webhook, str]:
        """Give a webhook a new secret; the old one signs too for the overlap, 24 hours when None.

        Returns the webhook and the secret, which is empty for the repeat of a request. Raises version_conflict, and
        failed_precondition where two sign already and the overlap would make them three.
        """
        before = await self._changeable(caller, name, "name")
        check_printable(request_id, "request_id")
        if request_id and before.rotate_request_id == request_id:
            return before, ""
        _check_etag(before, etag, "etag")
        now, overlap = self._clock.now(), DEFAULT_OVERLAP if overlap is None else overlap
        if overlap and keeps_old(before, now):
            raise failed("Two secrets sign already; wait until the older one ends, or rotate with an overlap of 0 s.")
        secret = new_secret()
        after = replace(
            before,
            sealed_secret=self._seals.seal(before.name, secret),
            old_sealed_secret=before.sealed_secret if overlap else "",
            old_secret_expire_time=now + overlap if overlap else None,
            rotate_request_id=request_id,
            update_time=now,
            version=before.version + 1,
        )
        if not await self._store.replace(
            after, _event(caller, origin, "rotate_secret", now, before=before, after=after)
        ):
            raise _conflict("etag")
        return after, secret

    async def reseal(self) -> int:
        """Seal all secrets under the key in force that are under another; return of how many webhooks.

        What cannot be opened here stays as it is.
        """
        count, after = 0, _BEGINNING
        while found := await self._store.list("", after, _PAGE_SIZE):
            for one in found:
                after = (one.organization_id, one.id)
                if self._seals.is_outdated(one) and self._seals.opens(one, self._clock.now()):
                    count += await self._store.replace(self._anew(one), None)
        return count

    def _anew(self, webhook: Webhook) -> Webhook:
        now = self._clock.now()
        current, *old = self._seals.valid(webhook, now)
        return replace(
            webhook,
            sealed_secret=self._seals.seal(webhook.name, current),
            old_sealed_secret=self._seals.seal(webhook.name, old[0]) if old else "",
            old_secret_expire_time=webhook.old_secret_expire_time if old else None,
            version=webhook.version + 1,
        )

    async def _changeable(self, caller: Principal, name: str, param: str) -> Webhook:
        organization_id, webhook_id = webhook_of(name, param)
        found = await self._store.get(organization_id, webhook_id) if changes_all(caller, organization_id) else None
        if found is None:
            raise _nothing_here(param=param)
        return found

    async def _require_room(self, organization_id: str, display_name: str) -> None:
        if len(await self._require_name_free(organization_id, display_name)) >= MOST_WEBHOOKS:
            raise failed(f"An organization has at most {MOST_WEBHOOKS} webhooks; delete one first.")

    async def _require_name_free(self, organization_id: str, display_name: str) -> list[Webhook]:
        kept = list(await self._store.list(organization_id, _BEGINNING, MOST_WEBHOOKS + 1))
        if any(one.draft.display_name == display_name for one in kept):
            raise GatewayError(
                errors_pb2.ERROR_REASON_ALREADY_EXISTS,
                "The organization has a webhook of this display name; choose another.",
                param="webhook.display_name",
                origin="caller",
            )
        return kept

    def _checked(self, draft: WebhookDraft, organization_id: str) -> WebhookDraft:
        """Return a draft with its defaults. Raises invalid_request."""
        check_text(draft.display_name, "webhook.display_name", 100, "what people read")
        check_text(draft.url, "webhook.url", 2048, "where calls go")
        try:
            check_target(draft.url, self._egress)
        except EgressRefusedError as exc:
            raise invalid("webhook.url", f"cannot be called: {exc}") from exc
        if set(draft.events) != {quota_service_pb2.WEBHOOK_EVENT_QUOTA_THRESHOLD}:
            raise invalid("webhook.events", "must be WEBHOOK_EVENT_QUOTA_THRESHOLD, all that this version sends")
        percents = tuple(sorted(set(draft.percents))) or DEFAULT_PERCENTS
        if len(percents) > 10 or not 1 <= percents[0] <= percents[-1] <= 1000:
            raise invalid("webhook.threshold_percents", "must be at most 10 numbers from 1 to 1000")
        for index, subject in enumerate(draft.subjects):
            param = f"webhook.subjects[{index}]"
            if tenant_of(subject_of(subject, param)[1]) != organization_id:
                raise invalid(param, "must be a resource name in the organization of the webhook")
        return replace(draft, events=tuple(sorted(set(draft.events))), percents=percents)


def _event(
    caller: Principal, origin: Origin, verb: str, now: datetime, *, before: Webhook | None, after: Webhook | None
) -> EventDraft:
    one = after or before
    assert one is not None
    return event(
        caller,
        origin,
        organization_id=one.organization_id,
        time=now,
        action=f"webhook.{verb}",
        resource=one.name,
        before=_document(before) if before else None,
        after=_document(after) if after else None,
    )


def _document(webhook: Webhook) -> dict[str, Any]:
    draft = webhook.draft
    parts = urlsplit(draft.url)
    return {
        "display_name": draft.display_name,
        # Receivers put secrets into paths and queries: of those it is only told whether they changed.
        "origin": f"{parts.scheme}://{parts.netloc}",
        "url_sha256": hashlib.sha256(draft.url.encode()).hexdigest(),
        "threshold_percents": list(draft.percents),
        "subjects": list(draft.subjects),
        "disabled": draft.disabled,
        "version": webhook.version,
    }


def _check_etag(webhook: Webhook, etag: str, param: str) -> None:
    if etag and etag != webhook.etag:
        raise _conflict(param)


def _conflict(param: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_VERSION_CONFLICT,
        "Somebody else changed this webhook since it was read; read it again and repeat the change.",
        param=param,
        origin="caller",
    )


def _nothing_here(noun: str = "webhook", param: str = "name") -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, f"There is no such {noun}.", param=param, origin="caller")
