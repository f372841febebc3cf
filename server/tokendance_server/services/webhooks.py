"""The part of the Quota servicer that sets up webhooks: decode, one call of the domain, encode."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.webhooks.desk import Webhooks
from tokendance_server.domain.webhooks.seals import keeps_old
from tokendance_server.domain.webhooks.webhook import Webhook, WebhookDraft
from tokendance_server.services.call import call_of
from tokendance_server.services.key_messages import timestamp
from tokendance_server.services.organization_messages import masked, require_new
from tokendance_server.services.origins import origin_of

Context = grpc.aio.ServicerContext[Any, Any]

_FIELDS = {
    "display_name": "display_name",
    "url": "url",
    "events": "events",
    "threshold_percents": "percents",
    "subjects": "subjects",
    "disabled": "disabled",
}


class WebhooksService:
    """Serves Create-, Get-, List-, Update- and DeleteWebhook, and RotateWebhookSecret."""

    def __init__(self, webhooks: Webhooks, clock: Clock) -> None:
        self._webhooks = webhooks
        self._webhook_clock = clock

    async def CreateWebhook(self, request: pb.CreateWebhookRequest, context: Context) -> pb.CreateWebhookResponse:
        """Make a webhook and its secret."""
        call = call_of(context)
        require_new(request.webhook, "webhook", _FIELDS)
        made, secret = await self._webhooks.create(
            call.identity, request.parent, _draft(request.webhook), request.request_id, origin=origin_of(call)
        )
        return pb.CreateWebhookResponse(webhook=self._shown(made), secret=secret)

    async def GetWebhook(self, request: pb.GetWebhookRequest, context: Context) -> pb.GetWebhookResponse:
        """Return one webhook."""
        found = await self._webhooks.get(call_of(context).identity, request.name)
        return pb.GetWebhookResponse(webhook=self._shown(found))

    async def ListWebhooks(self, request: pb.ListWebhooksRequest, context: Context) -> pb.ListWebhooksResponse:
        """Return a page of webhooks."""
        found, token = await self._webhooks.page(
            call_of(context).identity, request.parent, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListWebhooksResponse(webhooks=map(self._shown, found), next_page_token=token)

    async def UpdateWebhook(self, request: pb.UpdateWebhookRequest, context: Context) -> pb.UpdateWebhookResponse:
        """Change what the mask names."""
        call, wanted = call_of(context), request.webhook
        fields = masked(request.update_mask.paths, wanted, "a webhook", _FIELDS)
        changed = await self._webhooks.update(
            call.identity, wanted.name, _draft(wanted), fields, wanted.etag, origin=origin_of(call)
        )
        return pb.UpdateWebhookResponse(webhook=self._shown(changed))

    async def DeleteWebhook(self, request: pb.DeleteWebhookRequest, context: Context) -> pb.DeleteWebhookResponse:
        """Delete a webhook."""
        call = call_of(context)
        await self._webhooks.delete(call.identity, request.name, request.etag, origin=origin_of(call))
        return pb.DeleteWebhookResponse()

    async def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, context: Context
    ) -> pb.RotateWebhookSecretResponse:
        """Give a webhook a new secret."""
        call = call_of(context)
        changed, secret = await self._webhooks.rotate(
            call.identity,
            request.name,
            request.overlap.ToTimedelta() if request.HasField("overlap") else None,
            request.etag,
            request.request_id,
            origin=origin_of(call),
        )
        return pb.RotateWebhookSecretResponse(webhook=self._shown(changed), secret=secret)

    def _shown(self, one: Webhook) -> pb.Webhook:
        draft, health = one.draft, one.health
        signs_too = keeps_old(one, self._webhook_clock.now())
        return pb.Webhook(
            name=one.name,
            display_name=draft.display_name,
            url=draft.url,
            events=draft.events,
            threshold_percents=draft.percents,
            subjects=draft.subjects,
            disabled=draft.disabled,
            create_time=timestamp(one.create_time),
            update_time=timestamp(one.update_time),
            last_success_time=timestamp(health.last_success_time),
            last_failure_time=timestamp(health.last_failure_time),
            last_failure=health.last_failure,
            consecutive_failures=health.failures,
            old_secret_expire_time=timestamp(one.old_secret_expire_time) if signs_too else None,
            etag=one.etag,
        )


def _draft(one: pb.Webhook) -> WebhookDraft:
    return WebhookDraft(
        display_name=one.display_name,
        url=one.url,
        events=tuple(one.events),
        percents=tuple(one.threshold_percents),
        subjects=tuple(one.subjects),
        disabled=one.disabled,
    )
