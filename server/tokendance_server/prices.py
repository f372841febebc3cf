"""The prices of a node, wired: what is kept, what holds now, and who sets it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tokendance_server.domain.catalogue.models import Model
from tokendance_server.domain.changes import ChangeKind, Watcher
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.prices.desk import Prices
from tokendance_server.domain.prices.followed import FollowedPrices
from tokendance_server.providers.price_snapshot import BundledPrices
from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.prices import SqlPriceStore
from tokendance_server.telemetry import logger


@dataclass(frozen=True, slots=True)
class PriceParts:
    """What tells prices. `followed` must be started, so that changes of other nodes are seen."""

    book: PriceBook
    desk: Prices
    followed: FollowedPrices


async def open_prices(
    database: Database, watcher: Watcher, peppers: PepperRing, models: Callable[[], Iterable[Model]], clock: Clock
) -> PriceParts:
    """Read the prices that are kept; `models` tells the catalogue's. Raises StartupError."""
    store = SqlPriceStore(database)
    book = PriceBook(clock)
    followed = FollowedPrices(store, book, _tell)
    try:
        await followed.reload()
    except StoreUnavailableError as exc:
        raise StartupError(f"The prices cannot be read from the database: {exc}.") from exc
    watcher.subscribe(ChangeKind.PRICE, followed)
    tokens = PageTokens(peppers.derive("page tokens of prices"))
    desk = Prices(store, book, followed, BundledPrices(), models=models, tokens=tokens, clock=clock)
    return PriceParts(book, desk, followed)


def _tell(error: Exception | None) -> None:
    if error is None:
        logger().info("prices_read_again")
    else:
        logger().error("prices_not_read", error=type(error).__name__, detail=str(error))
