"""`tokendance policies`: by which rules an organization governs itself, shown and set."""

from __future__ import annotations

from typing import Annotated

import typer

from tokendance_cli.failures import show_request_id
from tokendance_cli.output import FormatOption, form_of
from tokendance_cli.tenant_words import DataDir, Etag, Fate

app = typer.Typer(
    no_args_is_help=True,
    help="See and set the policies of organizations. Rules that grant keys by themselves come by `tokendance apply`.",
)

Of = Annotated[
    str,
    typer.Argument(help="An id, or organizations/O; may be left out where there is one only.", metavar="ORGANIZATION"),
]
_CLEARABLE = {
    "reveal": "reveal_period",
    "max-rotation": "max_rotation_period",
    "max-key-lifetime": "max_key_lifetime",
    "orphaned-keys": "orphaned_keys",
    "issuance-rules": "issuance_rules",
    "exclude-route-tag": "excluded_route_tags",
}


@app.command("show")
def show_policy(
    context: typer.Context, organization: Of = "", data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """Show the policy of an organization."""
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import policy_lines, show
    from tokendance_cli.tenant_words import organization_of

    with admin_client(context, data_dir) as client:
        name = f"{organization_of(client, organization.removesuffix('/policy'))}/policy"
        found = client.stubs.organizations.GetPolicy(pb.GetPolicyRequest(name=name)).policy
    show(form_of(context, form), found, policy_lines(found))


@app.command("set")
def set_policy(
    context: typer.Context,
    organization: Of = "",
    *,
    self_approval: Annotated[
        bool | None,
        typer.Option(
            "--self-approval/--no-self-approval",
            help="Whether an administrator may decide about a request of its own.",
            show_default=False,
        ),
    ] = None,
    reveal_days: Annotated[
        int, typer.Option(min=0, max=30, help="How long a granted key can be revealed.", show_default=False)
    ] = 0,
    max_rotation_days: Annotated[
        int, typer.Option(min=0, max=3650, help="The longest rotation period of a key.", show_default=False)
    ] = 0,
    max_key_lifetime_days: Annotated[
        int, typer.Option(min=0, max=36500, help="The longest life of a key.", show_default=False)
    ] = 0,
    orphaned_keys: Annotated[
        Fate | None,
        typer.Option(help="What happens to the keys of a member who is stopped or leaves.", show_default=False),
    ] = None,
    orphaned_keys_owner: Annotated[
        str, typer.Option(help="The member who gets them, for reassign.", show_default=False)
    ] = "",
    exclude_route_tag: Annotated[
        list[str] | None,
        typer.Option(help="A tag of routes that calls never take, in place of those before. Repeatable."),
    ] = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(
            help="Clear reveal, max-rotation, max-key-lifetime, orphaned-keys, issuance-rules or exclude-route-tag. "
            "Repeatable.",
            show_default=False,
        ),
    ] = None,
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Change a policy; what is not named stays."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organization_pb2
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.key_request import resource
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import policy_lines, show
    from tokendance_cli.tenant_words import fate_number, given, organization_of

    wanted = organization_pb2.Policy(self_approval=bool(self_approval), orphaned_keys=fate_number(orphaned_keys))
    wanted.orphaned_keys_owner = orphaned_keys_owner
    wanted.excluded_route_tags.extend(exclude_route_tag or ())
    for period, number in (
        (wanted.reveal_period, reveal_days),
        (wanted.max_rotation_period, max_rotation_days),
        (wanted.max_key_lifetime, max_key_lifetime_days),
    ):
        if number:
            period.FromSeconds(number * 86_400)
    paths = given(wanted, clear or (), _CLEARABLE, ["self_approval"] if self_approval is False else [])
    if "orphaned_keys" in paths and "orphaned_keys_owner" not in paths:
        # Who got the keys before does not get them by another rule.
        paths.append("orphaned_keys_owner")
    with admin_client(context, data_dir) as client:
        parent = organization_of(client, organization.removesuffix("/policy"), orphaned_keys_owner)
        kept = client.stubs.organizations.GetPolicy(pb.GetPolicyRequest(name=f"{parent}/policy")).policy
        wanted.name, wanted.etag = kept.name, etag or kept.etag
        if orphaned_keys_owner:
            wanted.orphaned_keys_owner = resource("members", orphaned_keys_owner, parent)
        request = pb.UpdatePolicyRequest(policy=wanted)
        request.update_mask.paths.extend(paths)
        changed = client.stubs.organizations.UpdatePolicy(request).policy
    show(form_of(context, form), changed, policy_lines(changed))
    show_request_id(last_request_id())
