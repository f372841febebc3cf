"""Prices as administrators set and read them; calls that were admitted before keep the prices that held then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.audit.events import AUTOMATIC, PLATFORM, EventDraft, Origin, event
from tokendance_server.domain.catalogue.models import Model
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.prices.followed import FollowedPrices
from tokendance_server.domain.prices.price import Price, PriceList
from tokendance_server.domain.prices.rules import checked
from tokendance_server.domain.prices.store import PriceStore
from tokendance_server.domain.principals import Principal

_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Prices that a model could have; `matched` is its name in the list from which they come."""

    model: str
    prices: tuple[Price, ...]
    matched: str


class Suggests(Protocol):
    """Knows what models cost elsewhere."""

    def find(self, names: Sequence[str], now: datetime) -> tuple[str, tuple[Price, ...]] | None:
        """Return the name in its list, and the prices, of the first of the names that is in it; None where none is.

        May take milliseconds, and is called from a thread.
        """


class Prices:
    """Sets, lists and suggests prices. `models` tells the models of the catalogue."""

    def __init__(
        self,
        store: PriceStore,
        book: PriceBook,
        followed: FollowedPrices,
        suggests: Suggests,
        *,
        models: Callable[[], Iterable[Model]],
        tokens: PageTokens,
        clock: Clock,
    ) -> None:
        self._store = store
        self._book = book
        self._followed = followed
        self._suggests = suggests
        self._models = models
        self._tokens = tokens
        self._clock = clock

    async def list(
        self, *, page_size: int = 0, page_token: str = "", model: str = "", unpriced_only: bool = False
    ) -> tuple[Sequence[PriceList], str]:
        """Return a page of lists by model, and the token of the next page or an empty text.

        Models of the catalogue without a price are among them, with an empty list.
        """
        binding = f"prices {unpriced_only} {model}"
        after = self._tokens.open(page_token, binding) if page_token else ""
        kept = await self._store.load()
        now = self._clock.now()
        served = {one.id for one in self._models()}
        lists = []
        for name in sorted(served | kept.keys()):
            listed = kept.get(name) or PriceList(name)
            if name <= after or (model and name != model):
                continue
            if not unpriced_only or (name in served and listed.tariff(now) is None):
                lists.append(listed)
        size = page_size or _PAGE_SIZE
        token = self._tokens.seal(lists[size - 1].model, binding) if len(lists) > size else ""
        return lists[:size], token

    async def set(
        self,
        caller: Principal,
        model: str,
        prices: Sequence[Price],
        *,
        published: bool,
        etag: str = "",
        validate_only: bool = False,
        origin: Origin = AUTOMATIC,
    ) -> PriceList:
        """Put prices in the place of a model's; return its list as it is now, or would be.

        Prices of the past stay as they were; new ones hold from now or from a time to come. Raises model_not_found,
        version_conflict where the etag is of another version, failed_precondition where the past would change, and
        invalid_request.
        """
        before = (await self._store.load()).get(model) or PriceList(model)
        if not before.version and all(one.id != model for one in self._models()):
            raise GatewayError(
                errors_pb2.ERROR_REASON_MODEL_NOT_FOUND,
                f"There is no model {model!r}; prices are set for a public model name, not for an alias.",
                param="price_list.model",
                metadata={"model": model},
                origin="caller",
            )
        if etag and etag != before.etag:
            raise _conflict(before)
        now = self._clock.now()
        after = PriceList(model, checked(before, prices, now), published, now, before.version + 1)
        if (after.prices, after.published) == (before.prices, before.published):
            return before
        if not validate_only:
            if not await self._store.put(before, after, _event(caller, origin, before, after)):
                raise _conflict(before)
            # Other nodes learn of it from the feed; whoever asked this one may rely on it from now on.
            await self._followed.reload()
        return after

    async def suggest(self, models: Sequence[str]) -> tuple[Sequence[Suggestion], Sequence[str]]:
        """Return prices that models could have, and the models for which there are none; without names, the unpriced.

        A model is looked for by the names that it has upstream, then by its own.
        """
        served = {one.id: one for one in self._models()}
        now = self._clock.now()
        names = sorted(set(models)) if models else [one for one in sorted(served) if self._book.tariff(one) is None]
        suggestions, unknown = [], []
        for name in names:
            model = served.get(name)
            routes = sorted(model.routes, key=lambda route: route.priority) if model else []
            wanted = dict.fromkeys([*(route.upstream_model for route in routes), name])
            found = await asyncio.to_thread(self._suggests.find, list(wanted), now)
            if found is None or not found[1]:
                unknown.append(name)
            else:
                suggestions.append(Suggestion(name, found[1], found[0]))
        return suggestions, unknown


def _event(caller: Principal, origin: Origin, before: PriceList, after: PriceList) -> EventDraft:
    assert after.update_time is not None
    return event(
        caller,
        origin,
        organization_id=PLATFORM,
        time=after.update_time,
        action="prices.set",
        resource=f"models/{after.model}",
        before=document_of(before),
        after=document_of(after),
    )


def document_of(listed: PriceList) -> dict[str, Any]:
    """Return a list as the audit trail tells of it."""
    return {
        "prices": [
            {
                "class": one.price_class,
                "micros_per_million": one.per_million,
                "from_prompt_tokens": one.from_prompt_tokens,
                "service_tier": one.service_tier,
                "effective_time": one.effective_time.isoformat() if one.effective_time else "",
            }
            for one in listed.prices
        ],
        "published": listed.published,
        "version": listed.version,
    }


def _conflict(kept: PriceList) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_VERSION_CONFLICT,
        "Somebody else changed these prices since they were read; read them again and repeat the change.",
        param="price_list.etag",
        metadata={"etag": kept.etag},
        origin="caller",
    )
