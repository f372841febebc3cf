"""`tokendance members suspend, resume, remove, erase`: how a member is stopped, and what becomes of its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tokendance_cli.failures import show_request_id
from tokendance_cli.output import Format, FormatOption, form_of
from tokendance_cli.tenant_words import (
    DataDir,
    DryRun,
    Etag,
    KeysFate,
    KeysOwner,
    MemberArgument,
    Of,
    Reason,
    Yes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokendance.gateway.v1 import organization_pb2


def suspend_member(
    context: typer.Context,
    member: MemberArgument,
    *,
    reason: Reason,
    keys: KeysFate = None,
    keys_owner: KeysOwner = "",
    organization: Of = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Stop a member until it is resumed; its keys fare as --keys or the policy says."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_words import child, fate_number

    with admin_client(context, data_dir) as client:
        name = child(client, "members", member, organization)
        request = pb.SuspendMemberRequest(
            name=name, reason=reason, keys=fate_number(keys), keys_owner=_owner(keys_owner, name)
        )
        done = client.stubs.organizations.SuspendMember(request)
    _show_stopped(form_of(context, form), done.member, done.changed_keys)
    show_request_id(last_request_id())


def resume_member(
    context: typer.Context,
    member: MemberArgument,
    *,
    organization: Of = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Let a suspended member sign in again; its keys stay as they are."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import member_lines, show
    from tokendance_cli.tenant_words import child

    with admin_client(context, data_dir) as client:
        request = pb.ResumeMemberRequest(name=child(client, "members", member, organization))
        resumed = client.stubs.organizations.ResumeMember(request).member
    show(form_of(context, form), resumed, member_lines(resumed))
    show_request_id(last_request_id())


def remove_member(
    context: typer.Context,
    member: MemberArgument,
    *,
    reason: Reason,
    keys: KeysFate = None,
    keys_owner: KeysOwner = "",
    etag: Etag = "",
    yes: Yes = False,
    organization: Of = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Take a member out for good; its keys fare as --keys or the policy says."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_words import agree, child, fate_number

    with admin_client(context, data_dir) as client:
        stub, name = client.stubs.organizations, child(client, "members", member, organization)
        kept = stub.GetMember(pb.GetMemberRequest(name=name)).member
        agree(f"{_who(kept)} is taken out for good; {kept.key_count} of its keys work.", yes=yes)
        request = pb.DeleteMemberRequest(
            name=name, reason=reason, keys=fate_number(keys), keys_owner=_owner(keys_owner, name)
        )
        request.etag = etag or kept.etag
        changed_keys = stub.DeleteMember(request).changed_keys
        gone = stub.GetMember(pb.GetMemberRequest(name=name)).member
    _show_stopped(form_of(context, form), gone, changed_keys)
    show_request_id(last_request_id())


def erase_member(
    context: typer.Context,
    member: MemberArgument,
    *,
    reason: Reason,
    dry_run: DryRun = False,
    yes: Yes = False,
    organization: Of = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Erase who a member is: keys end, personal data goes, totals stay. There is no way back.

    The reason stays in the audit trail; it must not name the person.
    """
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import erasure_lines, show
    from tokendance_cli.tenant_words import agree, child

    with admin_client(context, data_dir) as client:
        stub, name = client.stubs.organizations, child(client, "members", member, organization)
        kept = stub.GetMember(pb.GetMemberRequest(name=name)).member
        request = pb.EraseMemberRequest(name=name, reason=reason, validate_only=True)
        summary = stub.EraseMember(request).summary
        if not dry_run:
            agree(f"{_who(kept)} is erased for good, and {summary.keys} keys end.", yes=yes)
            request.validate_only = False
            summary = stub.EraseMember(request).summary
    show(form_of(context, form), summary, erasure_lines(summary, "only counted" if dry_run else "done"))
    show_request_id(last_request_id())


def _owner(named: str, member: str) -> str:
    from tokendance_cli.key_request import resource

    return resource("members", named, "/".join(member.split("/")[:2])) if named else ""


def _who(one: organization_pb2.Member) -> str:
    who = one.display_name or one.email or one.subject
    return f"{who} ({one.name})" if who else one.name


def _show_stopped(form: Format, one: organization_pb2.Member, changed_keys: Sequence[str]) -> None:
    from tokendance_cli.output import print_json, print_record
    from tokendance_cli.tenant_view import document, member_lines

    if form is Format.JSON:
        print_json({"member": document(one), "changed_keys": list(changed_keys)})
    else:
        print_record([*member_lines(one), ("changed keys", ", ".join(changed_keys))])
