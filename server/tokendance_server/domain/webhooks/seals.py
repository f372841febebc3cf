"""Secrets of webhooks, sealed: each opens for its own webhook, and nowhere else."""

from __future__ import annotations

from datetime import datetime

from tokendance_server.domain.sealing import KeyRing, UnsealError, sealed_under
from tokendance_server.domain.webhooks.webhook import Webhook


class WebhookSeals:
    """Seals and opens secrets with the keys of a ring."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def seal(self, name: str, secret: str) -> str:
        """Return a secret sealed for the webhook of this name."""
        return self._ring.seal(secret, _place(name))

    def valid(self, webhook: Webhook, now: datetime) -> list[str]:
        """Return the secrets that sign now, the newest first. Raises UnsealError."""
        sealed = [webhook.sealed_secret]
        if keeps_old(webhook, now):
            sealed.append(webhook.old_sealed_secret)
        return [self._ring.open(one, _place(webhook.name)) for one in sealed]

    def opens(self, webhook: Webhook, now: datetime) -> bool:
        """Tell whether the secrets that sign now can be opened here."""
        try:
            self.valid(webhook, now)
        except UnsealError:
            return False
        return True

    def is_outdated(self, webhook: Webhook) -> bool:
        """Tell whether a secret is sealed under another key than the one in force."""
        sealed = (webhook.sealed_secret, webhook.old_sealed_secret)
        return any(one and sealed_under(one) != self._ring.active_id for one in sealed)


def keeps_old(webhook: Webhook, now: datetime) -> bool:
    """Tell whether the secret before the current one signs, too."""
    until = webhook.old_secret_expire_time
    return bool(webhook.old_sealed_secret) and until is not None and until > now


def _place(name: str) -> str:
    return f"webhook {name}"
