"""Changes of the catalogue: each checked in view of everything that is kept, and in force on this node at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.audit.events import AUTOMATIC, Origin
from tokendance_server.domain.catalogue.audited import Editing, entry_event
from tokendance_server.domain.catalogue.entries import (
    AnyEntry,
    CatalogueStore,
    Edit,
    Entry,
    EntryKind,
    ModelSpec,
    ProviderSpec,
    Rows,
)
from tokendance_server.domain.catalogue.in_force import Catalogue, SpecError, Upstreams
from tokendance_server.domain.catalogue.rules import (
    check_credential,
    check_model,
    check_model_name,
    check_names_free,
    check_provider,
    check_provider_name,
    origin_of,
    refuse_spec,
)
from tokendance_server.domain.catalogue.seals import ProviderSeals
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.principals import GATEWAY, Principal

_WORDS = {EntryKind.PROVIDER: "provider", EntryKind.MODEL: "model"}
_PARAMS = {EntryKind.PROVIDER: "provider.name", EntryKind.MODEL: "model_config.model.name"}


class CatalogueEditor:
    """Creates, changes and deletes providers and models. What the settings of the node name it never changes.

    The audit trail learns of each change, who made it and from where. Every method raises
    invalid_request with the field at fault, and what the store raises.
    """

    def __init__(
        self, store: CatalogueStore, catalogue: Catalogue, upstreams: Upstreams, seals: ProviderSeals, clock: Clock
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._upstreams = upstreams
        self._seals = seals
        self._clock = clock

    async def providers(self) -> list[Entry[ProviderSpec]]:
        """Return every provider by name, those of the settings in place of what is kept under the same name."""
        rows = await self._store.load()
        return [entry for _, entry in sorted(self._all_providers(rows).items())]

    async def provider(self, name: str) -> Entry[ProviderSpec]:
        """Return one provider. Raises not_found."""
        entry = self._all_providers(await self._store.load()).get(name)
        if entry is None:
            raise _missing(EntryKind.PROVIDER, name, "name")
        return entry

    async def models(self) -> tuple[list[Entry[ModelSpec]], int]:
        """Return every model by name as `providers` does, and the version of the catalogue that this node serves."""
        rows = await self._store.load()
        entries = [entry for _, entry in sorted(self._all_models(rows).items())]
        return entries, self._catalogue.serving.catalog.version

    async def create_provider(
        self,
        caller: Principal,
        name: str,
        spec: ProviderSpec,
        request_id: str,
        *,
        credential: str = "",
        origin: Origin = AUTOMATIC,
        validate_only: bool = False,
    ) -> Entry[ProviderSpec]:
        """Add a provider, or with `validate_only` return what would be added. A `credential` itself is kept sealed.

        A repeat with the same `request_id` returns what the first call made. Raises already_exists,
        idempotency_conflict, and failed_precondition for a name of the settings.
        """
        check_provider_name(name)
        if credential:
            check_credential(credential)
            spec = self._seals.with_credential(name, spec, credential)
        self._check_provider(name, spec)
        by = Editing(caller, origin, EntryKind.PROVIDER, validate_only)
        return await self._create(by, name, spec, request_id, lambda rows: None)

    async def create_model(
        self, caller: Principal, name: str, spec: ModelSpec, request_id: str, *, origin: Origin = AUTOMATIC
    ) -> Entry[ModelSpec]:
        """Add a model, as `create_provider`; already_exists also where another model has one of its names."""
        check_model_name(name)
        return await self._create(
            Editing(caller, origin, EntryKind.MODEL),
            name,
            spec,
            request_id,
            lambda rows: self._check_model(name, spec, rows),
        )

    async def update_provider(
        self,
        caller: Principal,
        name: str,
        changes: Mapping[str, Any],
        etag: str,
        *,
        origin: Origin = AUTOMATIC,
        validate_only: bool = False,
    ) -> Entry[ProviderSpec]:
        """Change the named fields of a provider, or with `validate_only` return what it would be.

        A `credential` among them, which is no field of the specification, is kept sealed; an empty one removes what was
        sealed. Another origin of its address drops the credential that is not given anew. Raises not_found,
        version_conflict where `etag` is of another version, and failed_precondition for a name of the settings.
        """

        def changed(kept: Entry[ProviderSpec], _rows: Rows) -> ProviderSpec:
            spec = self._with_changes(name, kept.spec, changes)
            if spec != kept.spec:
                self._check_provider(name, spec)
            return spec

        return await self._update(Editing(caller, origin, EntryKind.PROVIDER, validate_only), name, etag, changed)

    async def update_model(
        self, caller: Principal, name: str, changes: Mapping[str, Any], etag: str, *, origin: Origin = AUTOMATIC
    ) -> Entry[ModelSpec]:
        """Change the named fields of a model. Raises as `update_provider`, and already_exists for a taken name."""

        def changed(kept: Entry[ModelSpec], rows: Rows) -> ModelSpec:
            spec = dataclasses.replace(kept.spec, **changes)
            self._check_model(name, spec, rows)
            return spec

        return await self._update(Editing(caller, origin, EntryKind.MODEL), name, etag, changed)

    async def delete_model(self, caller: Principal, name: str, etag: str, *, origin: Origin = AUTOMATIC) -> None:
        """Delete a model; harmless where there is none. Raises version_conflict and failed_precondition."""
        await self._delete(Editing(caller, origin, EntryKind.MODEL), name, etag, lambda rows: None)

    async def delete_provider(self, caller: Principal, name: str, etag: str, *, origin: Origin = AUTOMATIC) -> None:
        """Delete a provider; harmless where there is none. Raises failed_precondition where a route leads to it."""

        def check(rows: Rows) -> None:
            users = [
                model
                for model, entry in self._all_models(rows).items()
                if any(route.provider == name for route in entry.spec.routes)
            ]
            listed = ", ".join(sorted(users)[:10])
            if users:
                raise GatewayError(
                    errors_pb2.ERROR_REASON_FAILED_PRECONDITION,
                    f"Routes of these models lead to the provider {name!r}; take them out first: {listed}.",
                    param="name",
                    metadata={"provider": name, "models": listed},
                    origin="caller",
                )

        await self._delete(Editing(caller, origin, EntryKind.PROVIDER), name, etag, check)

    async def _create(
        self, by: Editing, name: str, spec: Any, request_id: str, check: Callable[[Rows], None]
    ) -> Entry[Any]:
        kind = by.kind
        self._refuse_settings(kind, name, _PARAMS[kind])
        now = self._clock.now()

        def decide(rows: Rows) -> Edit:
            kept = rows.find(kind, name)
            if kept is not None:
                wanted = spec
                if isinstance(kept.spec, ProviderSpec):
                    wanted = self._seals.as_kept(name, kept.spec, spec)
                return Edit(kind, name, now, _repeated(kind, kept, wanted, request_id))
            check(rows)
            made = Entry(name, spec, now, now, request_id=request_id)
            return Edit(kind, name, now, made, entry_event(by, "create", now, None, made))

        made: Entry[Any] = await self._edit(decide, validate_only=by.validate_only)
        return made

    async def _update(
        self, by: Editing, name: str, etag: str, changed: Callable[[Entry[Any], Rows], Any], verb: str = "update"
    ) -> Entry[Any]:
        kind = by.kind
        self._refuse_settings(kind, name, _PARAMS[kind])
        now = self._clock.now()

        def decide(rows: Rows) -> Edit:
            kept: Entry[Any] | None = rows.find(kind, name)
            if kept is None:
                raise _missing(kind, name, _PARAMS[kind])
            _check_etag(kept, etag, f"{_PARAMS[kind].partition('.')[0]}.etag")
            spec = changed(kept, rows)
            if spec == kept.spec:
                return Edit(kind, name, now, kept)
            after = dataclasses.replace(kept, spec=spec, update_time=now, version=kept.version + 1)
            return Edit(kind, name, now, after, entry_event(by, verb, now, kept, after))

        changed_entry: Entry[Any] = await self._edit(decide, validate_only=by.validate_only)
        return changed_entry

    async def _delete(self, by: Editing, name: str, etag: str, check: Callable[[Rows], None]) -> None:
        kind = by.kind
        self._refuse_settings(kind, name, "name")
        now = self._clock.now()

        def decide(rows: Rows) -> Edit:
            kept = rows.find(kind, name)
            if kept is None:
                return Edit(kind, name, now, None)
            _check_etag(kept, etag, "etag")
            check(rows)
            return Edit(kind, name, now, None, entry_event(by, "delete", now, kept, None))

        await self._edit(decide)

    async def _edit(self, decide: Callable[[Rows], Edit], *, validate_only: bool = False) -> Any:
        if validate_only:
            return decide(await self._store.load()).entry
        entry = await self._store.edit(decide)
        # Other nodes learn of it from the feed; whoever asked this one may rely on it from now on.
        await self._catalogue.reload()
        return entry

    async def reseal(self) -> int:
        """Seal anew what is not sealed under the key in force; return how many credentials that were.

        What cannot be opened here stays as it is.
        """
        count = 0
        for name, entry in (await self._store.load()).providers.items():
            if self._seals.is_outdated(entry.spec) and self._seals.opens(name, entry.spec):
                by = Editing(GATEWAY, AUTOMATIC, EntryKind.PROVIDER)
                await self._update(by, name, "", lambda kept, _: self._seals.anew(kept.name, kept.spec), "reseal")
                count += 1
        return count

    def _with_changes(self, name: str, kept: ProviderSpec, changes: Mapping[str, Any]) -> ProviderSpec:
        fields = dict(changes)
        credential = fields.pop("credential", None)
        caps = {name: fields.pop(name) for name in changes if name.startswith("caps.")}
        if caps:
            changed_caps = {name.removeprefix("caps."): cap for name, cap in caps.items()}
            fields["caps"] = dataclasses.replace(kept.caps, **changed_caps)
        spec = dataclasses.replace(kept, **fields)
        given = credential is not None or "credential_reference" in fields
        if credential is not None or fields.get("credential_reference"):
            spec = dataclasses.replace(spec, sealed_credential="")
        if credential:
            check_credential(credential)
            if "credential_reference" not in fields:
                spec = dataclasses.replace(spec, credential_reference="")
            spec = self._seals.with_credential(name, spec, credential)
        elif not given and origin_of(spec.base_url) != origin_of(kept.base_url):
            spec = dataclasses.replace(spec, credential_reference="", sealed_credential="")
        if "more_credential_references" not in fields and origin_of(spec.base_url) != origin_of(kept.base_url):
            spec = dataclasses.replace(spec, more_credential_references=())
        return spec

    def _check_provider(self, name: str, spec: ProviderSpec) -> None:
        check_provider(spec)
        try:
            self._upstreams.build(self._upstreams.configure(name, spec))
        except SpecError as exc:
            raise refuse_spec(exc) from exc

    def _check_model(self, name: str, spec: ModelSpec, rows: Rows) -> None:
        check_model(name, spec, self._all_providers(rows))

        def everything() -> Iterator[tuple[str, Entry[ModelSpec]]]:
            yield from self._all_models(rows).items()

        check_names_free(name, spec, everything)

    def _all_providers(self, rows: Rows) -> dict[str, Entry[ProviderSpec]]:
        return {**rows.providers, **self._catalogue.settings.provider_entries()}

    def _all_models(self, rows: Rows) -> dict[str, Entry[ModelSpec]]:
        return {**rows.models, **self._catalogue.settings.model_entries()}

    def _refuse_settings(self, kind: EntryKind, name: str, param: str) -> None:
        settings = self._catalogue.settings
        if name in (settings.providers if kind is EntryKind.PROVIDER else settings.models):
            raise GatewayError(
                errors_pb2.ERROR_REASON_FAILED_PRECONDITION,
                f"The {_WORDS[kind]} {name!r} is named in the settings file of the node and can be changed only there.",
                param=param,
                metadata={"name": f"{kind}/{name}"},
                origin="caller",
            )


def _repeated(kind: EntryKind, kept: AnyEntry, spec: Any, request_id: str) -> AnyEntry:
    """Return what an earlier call with this request id made; raises where it was another one, or another wish."""
    name = f"{kind}/{kept.name}"
    if not request_id or request_id != kept.request_id:
        raise GatewayError(
            errors_pb2.ERROR_REASON_ALREADY_EXISTS,
            f"There is a {_WORDS[kind]} {kept.name!r} already; change it, or choose another name.",
            param=_PARAMS[kind],
            metadata={"name": name},
            origin="caller",
        )
    if kept.version == 1 and kept.spec != spec:
        raise GatewayError(
            errors_pb2.ERROR_REASON_IDEMPOTENCY_CONFLICT,
            f"This request_id made another {_WORDS[kind]} before; use a new one.",
            param="request_id",
            metadata={"name": name},
            origin="caller",
        )
    return kept


def _check_etag(kept: AnyEntry, etag: str, param: str) -> None:
    if etag and etag != kept.etag:
        raise GatewayError(
            errors_pb2.ERROR_REASON_VERSION_CONFLICT,
            "Somebody else changed it since it was read; read it again and repeat the change.",
            param=param,
            metadata={"etag": kept.etag},
            origin="caller",
        )


def _missing(kind: EntryKind, name: str, param: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_NOT_FOUND,
        f"There is no {_WORDS[kind]} {name!r}.",
        param=param,
        metadata={"name": f"{kind}/{name}"},
        origin="caller",
    )
