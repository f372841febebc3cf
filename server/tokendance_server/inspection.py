"""What a start would find in the database of its configuration: read, and neither changed, migrated nor leased."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from tokendance_server.catalogue import NodeUpstreams, read_layer
from tokendance_server.catalogue_settings import ModelSettings, ProviderSettings
from tokendance_server.config import ServerConfig
from tokendance_server.domain.catalogue.entries import ProviderSpec, Rows
from tokendance_server.domain.catalogue.in_force import SpecError
from tokendance_server.domain.catalogue.layers import Layer, combine
from tokendance_server.domain.catalogue.models import Model
from tokendance_server.domain.catalogue.seals import ProviderSeals
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.sealing import KeyRing
from tokendance_server.providers.transport import open_transport
from tokendance_server.startup import ConfigurationError
from tokendance_server.storage import read_secrets, secrets_dir
from tokendance_server.stores.paths import DATABASE_FILE, find_node_id
from tokendance_server.stores.sql.catalogue import SqlCatalogueStore
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.leases import Holder, holders, refuse_taken
from tokendance_server.stores.sql.peppers import compare_peppers, compare_ring


@asynccontextmanager
async def open_reader(config: ServerConfig) -> AsyncIterator[Database | None]:
    """Give the database of a configuration to read, or None where a first start would make a file. Raises StartupError.

    What goes wrong with it meanwhile becomes a StartupError too.
    """
    if config.database_url is not None:
        database = await Database.connect_postgresql(config.database_url.get_secret_value(), read_only=True)
    else:
        file = config.data_dir / DATABASE_FILE
        # A start that was ended early leaves an empty one.
        if not file.exists() or not file.stat().st_size:
            yield None
            return
        database = Database.read_sqlite(file)
    async with database.closed_on_failure("see docs/operations/databases.md"):
        yield database
    await database.close()


async def check_secrets(config: ServerConfig, database: Database) -> bool:
    """Compare the secrets of this node with those of the database; False where the node is yet to make its own.

    Raises StartupError as a start would.
    """
    kept = read_secrets(config)
    async with database.read() as connection:
        if kept.peppers:
            await compare_peppers(connection, database.place, PepperRing.of(*kept.peppers).checks, datetime.now(UTC))
        else:
            # Whatever it makes is not what keys were made under, where there are any.
            await compare_peppers(connection, database.place, {}, datetime.now(UTC))
        checks: Mapping[str, bytes] = KeyRing(kept.ring).checks if kept.ring else {}
        await compare_ring(connection, database.place, checks)
    return bool(kept.peppers and kept.ring)


async def check_lease(config: ServerConfig, database: Database) -> tuple[Sequence[Holder], bool]:
    """Return the nodes that serve the database now, and whether this one is among them.

    Raises StartupError where they leave no room for it.
    """
    serving, node_id = await holders(database), find_node_id(config.data_dir)
    others = [one for one in serving if one.node_id != node_id]
    refuse_taken(database.place, others, shared=config.redis_url is not None)
    return serving, len(others) < len(serving)


@dataclass(frozen=True, slots=True)
class KeptCatalogue:
    """What the database keeps, and what a node would make of it beside its settings.

    `broken` tells, for each provider that it could not call, which field of it is why; `served` are the models.
    """

    rows: Rows
    providers: Mapping[str, ProviderSpec]
    broken: Mapping[str, SpecError]
    served: Mapping[str, Model]


async def read_catalogue(
    config: ServerConfig,
    database: Database,
    providers: Sequence[ProviderSettings],
    models: Sequence[ModelSettings],
    egress: EgressPolicy,
) -> KeptCatalogue:
    """Return the catalogue of the database as a start would read it. Raises StartupError."""
    rows = await SqlCatalogueStore(database).load()
    try:
        layer = read_layer(providers, models, datetime.now(UTC))
    except ConfigurationError:
        # What is wrong with the settings is told by themselves.
        layer = Layer()
    combined = combine(layer, rows)
    transport = open_transport(config.upstream_client, egress)
    ring = KeyRing(read_secrets(config).ring or (secrets.token_bytes(32),))
    upstreams = NodeUpstreams(secrets_dir(config.data_dir), egress, transport, ProviderSeals(ring))
    broken: dict[str, SpecError] = {}
    try:
        for name, spec in combined.providers.items():
            try:
                upstreams.build(upstreams.configure(name, spec))
            except SpecError as exc:
                broken[name] = exc
    finally:
        await transport.close()
    return KeptCatalogue(rows, combined.providers, broken, {model.id: model for model in combined.models})
