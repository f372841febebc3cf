"""Asks a node what it thinks of a plan, and brings it about, change by change, saying honestly how far it came."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance_cli.catalogue_file.entries import PATHS, Entry, model_message, provider_message
from tokendance_cli.catalogue_file.people_send import KINDS, Directory, send_person
from tokendance_cli.catalogue_file.plan import Action, Change
from tokendance_cli.catalogue_file.positions import Path

if TYPE_CHECKING:
    from tokendance import Client

_PREFIX = re.compile(r"^(provider|model_config(\.model)?|organization|team|member|policy)\.")
_STEP = re.compile(r"([a-z_]+)|\[(\d+)\]")
_NAMES = {path.removeprefix("model."): name for paths in PATHS.values() for name, path in paths.items()} | {
    f"{name}_json": name for name in ("default_parameters", "forced_parameters")
}
_OF_THE_FILE = (errors_pb2.ERROR_REASON_INVALID_REQUEST, errors_pb2.ERROR_REASON_FAILED_PRECONDITION)
_UNSURE = (errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED, errors_pb2.ERROR_REASON_SERVICE_STOPPING)


@dataclass(frozen=True, slots=True)
class Failure:
    """The change that failed, and why. `unsure` where the node may have made it all the same."""

    change: Change
    error: GatewayError

    @property
    def unsure(self) -> bool:
        """True where the answer was lost, not the request."""
        return self.error.reason in _UNSURE

    @property
    def path(self) -> Path:
        """Where in the file the field at fault stands; empty for what is not in the file."""
        entry = self.change.after
        if entry is None:
            return ()
        return (*entry.path, *_steps(self.error.param or ""))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan: the first changes are done; after a failure nothing more was tried."""

    done: Sequence[Change]
    failure: Failure | None
    not_tried: Sequence[Change]


def refused_by_node(client: Client, changes: Sequence[Change]) -> Iterator[Failure]:
    """Yield every provider that the node would refuse as it is, for its address or its credential. Changes nothing.

    Models are not asked about: their routes may lead to providers that the plan is yet to make. Raises GatewayError
    for everything that is not the file's fault.
    """
    for change in changes:
        settled = change.before is not None and change.before.read_only
        if change.entry.kind != "provider" or change.action is Action.DELETE or settled:
            continue
        try:
            _send(client, change, validate_only=True)
        except GatewayError as error:
            if error.reason not in _OF_THE_FILE:
                raise
            yield Failure(change, error)


def send_plan(
    client: Client, changes: Sequence[Change], tell: Callable[[Change], None], kept: Iterable[Entry] = ()
) -> Outcome:
    """Make the changes in their order up to the first that fails; each one made is told. `kept` is what is there."""
    directory = Directory(kept)
    for number, change in enumerate(changes):
        try:
            if change.entry.kind in KINDS:
                send_person(client, change, directory)
            else:
                _send(client, change)
        except GatewayError as error:
            return Outcome(changes[:number], Failure(change, error), changes[number + 1 :])
        tell(change)
    return Outcome(changes, None, ())


def _send(client: Client, change: Change, *, validate_only: bool = False) -> None:
    stub, entry = client.stubs.models, change.entry
    if entry.kind == "provider":
        match change.action:
            case Action.CREATE:
                provider = provider_message(entry)
                stub.CreateProvider(pb.CreateProviderRequest(provider=provider, validate_only=validate_only))
            case Action.UPDATE:
                request = pb.UpdateProviderRequest(provider=provider_message(entry), update_mask=_mask(change))
                request.validate_only = validate_only
                stub.UpdateProvider(request)
            case Action.DELETE:
                stub.DeleteProvider(pb.DeleteProviderRequest(name=f"providers/{entry.name}", etag=entry.etag))
        return
    match change.action:
        case Action.CREATE:
            stub.CreateModel(pb.CreateModelRequest(model_config=model_message(entry)))
        case Action.UPDATE:
            stub.UpdateModel(pb.UpdateModelRequest(model_config=model_message(entry), update_mask=_mask(change)))
        case Action.DELETE:
            stub.DeleteModel(pb.DeleteModelRequest(name=f"models/{entry.name}", etag=entry.etag))


def _mask(change: Change) -> FieldMask:
    fields = change.fields
    if "base_url" in fields and "credential" not in fields:
        # The same reference for another origin is meant, for it stands in the file: so it is given anew.
        fields.append("credential")
    paths = PATHS[change.entry.kind]
    return FieldMask(paths=[paths.get(name, name) for name in fields])


def _steps(param: str) -> Path:
    steps = _STEP.findall(_PREFIX.sub("", param))
    return tuple(int(number) if number else _NAMES.get(name, name) for name, number in steps)
