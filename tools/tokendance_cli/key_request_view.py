"""Requests for keys as the commands find, show and change them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance_cli.failures import FAILED, CommandError
from tokendance_cli.key_update import Words, key_update
from tokendance_cli.key_view import moment, utc
from tokendance_cli.limits import limit_text
from tokendance_cli.output import Format, print_json, print_record

if TYPE_CHECKING:
    from tokendance import Client


def all_requests(client: Client, parent: str, state: str = "") -> Iterator[pb.KeyRequest]:
    """Yield every request that the caller sees, newest first; `state` as in `pending`, empty for any."""
    request = pb.ListKeyRequestsRequest(parent=parent, page_size=1000)
    if state:
        request.state = pb.KeyRequestState.Value(f"KEY_REQUEST_STATE_{state.upper()}")
    while True:
        page = client.stubs.keys.ListKeyRequests(request)
        yield from page.key_requests
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def find_request(client: Client, named: str) -> pb.KeyRequest:
    """Return a request by its name or its id alone; raises CommandError where the caller sees none such."""
    for one in all_requests(client, "organizations/-"):
        if named in (one.name, one.name.rpartition("/")[2]):
            return one
    raise CommandError(
        f"There is no request {named}, or it is not yours to see.", "`tokendance keys requests` lists them.",
        exit_code=FAILED, code="not_found",
    )  # fmt: skip


def request_name(client: Client, named: str) -> str:
    """Return the name of a request by its name or its id alone; raises CommandError as `find_request`."""
    return named if "/" in named else find_request(client, named).name


def changed_wish(asked: pb.KeyRequest, words: Words) -> pb.Key:
    """Return the key of a request with what the words say in place of what was asked for; raises CommandError."""
    key = pb.Key()
    key.CopyFrom(asked.key)
    key.name = asked.name  # only tells the organization
    change = key_update(key, words, "")
    change.update_mask.MergeMessage(change.key, key, replace_message_field=True, replace_repeated_field=True)
    key.ClearField("name")
    return key


def show_request(form: Format, one: pb.KeyRequest) -> None:
    """Print one request."""
    if form is Format.JSON:
        print_json(request_document(one))
        return
    key = one.key
    print_record(
        [
            ("request", one.name),
            ("state", request_state(one)),
            ("requester", one.requester),
            ("decided by", one.decided_by),
            ("reason", one.decision_reason),
            ("reveal until", utc(one.reveal_expire_time) if one.HasField("reveal_expire_time") else ""),
            ("key", key.name),
            ("purpose", key.purpose),
            ("owner", key.owner),
            ("team", key.team),
            ("quota from", key.quota.inherited_from),
            ("limits", "; ".join(limit_text(rule) for rule in key.quota.limits.rules)),
            ("rotated by", key.rotation.responsible),
            ("rotated every", f"{key.rotation.period.seconds // 86_400} days"),
            ("expires", moment(key, "expire_time")),
            ("models", ", ".join(key.allowed_models) or "all"),
            ("networks", ", ".join(key.allowed_networks) or "any"),
            ("labels", ", ".join(f"{name}={value}" for name, value in sorted(key.labels.items()))),
            ("asked", utc(one.create_time)),
            ("etag", one.etag),
        ]
    )


def request_document(one: pb.KeyRequest) -> dict[str, object]:
    """Return a request as JSON has it."""
    return MessageToDict(one, preserving_proto_field_name=True)


def request_state(one: pb.KeyRequest) -> str:
    """Return where a request stands in one word."""
    return pb.KeyRequestState.Name(one.state).removeprefix("KEY_REQUEST_STATE_").lower()
