"""The status of a node, wired: what counts, what judges, and who writes incidents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tokendance.errors import GatewayError
from tokendance_server.domain.catalogue.in_force import Catalogue
from tokendance_server.domain.changes import ChangeKind, Watcher
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import GATEWAY
from tokendance_server.domain.routing.health import HealthSource
from tokendance_server.domain.status.board import Board
from tokendance_server.domain.status.desk import Notices
from tokendance_server.domain.status.tally import Tally
from tokendance_server.domain.usage.ledger import Ledger
from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.incidents import SqlNoticeStore
from tokendance_server.stores.sql.status import SqlStatusStore
from tokendance_server.telemetry import logger


@dataclass(frozen=True, slots=True)
class StatusParts:
    """What tells the state. The board must be started."""

    board: Board
    notices: Notices
    health: HealthSource
    tokens: PageTokens


async def open_status(
    database: Database,
    watcher: Watcher,
    catalogue: Catalogue,
    *,
    ledger: Ledger,
    health: HealthSource,
    peppers: PepperRing,
    run_id: str,
    clock: Clock,
    registry: CollectorRegistry,
) -> StatusParts:
    """Wire it: requests that end are counted from now on, and the state of now is known. Raises StartupError."""

    def find(name: str) -> str | None:
        try:
            return catalogue.serving.catalog.find(name, GATEWAY).id
        except GatewayError:
            return None

    tally = Tally(find)
    notice_store = SqlNoticeStore(database)
    board = Board(
        SqlStatusStore(database),
        notice_store,
        tally,
        lambda: catalogue.serving,
        run_id=run_id,
        clock=clock,
        report=_tell,
    )
    watcher.subscribe(ChangeKind.INCIDENT, board)
    watcher.subscribe(ChangeKind.MAINTENANCE, board)
    try:
        await board.refresh()
    except StoreUnavailableError as exc:
        raise StartupError(f"The status cannot be read: {exc}.") from exc
    ledger.listeners.append(tally.ended)
    registry.register(_States(board))
    tokens = PageTokens(peppers.derive("page tokens of the status"))
    notices = Notices(notice_store, catalogue.has, tokens, clock, board.refresh)
    return StatusParts(board, notices, health, tokens)


class _States(Collector):
    """Exports the states of now as numbers: the worse, the higher."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def describe(self) -> Iterable[Metric]:
        """Name what there is, so that nobody asks for values to know it."""
        return (self._whole(), self._models())

    def collect(self) -> Iterable[Metric]:
        """Return the values of now."""
        whole, models, picture = self._whole(), self._models(), self._board.picture
        whole.add_metric((), picture.whole.state.severity)
        for name, view in picture.models.items():
            models.add_metric((name,), view.verdict.state.severity)
        return (whole, models)

    @staticmethod
    def _whole() -> GaugeMetricFamily:
        return GaugeMetricFamily("tokendance_state", "The state of the whole: 0 operational to 4 major outage.")

    @staticmethod
    def _models() -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "tokendance_model_state", "The state of each model, as that of the whole.", labels=("model",)
        )


def _tell(error: Exception | None) -> None:
    if error is None:
        logger().info("status_judged_again")
    else:
        logger().error("status_not_judged", error=type(error).__name__, detail=str(error))
