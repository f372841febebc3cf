"""`tokendance status`: what works now, once or as it changes; and `tokendance nodes`: which nodes there are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.commands.models import BaseUrl
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_rows
from tokendance_cli.tenant_words import DataDir

if TYPE_CHECKING:
    from tokendance import Client
    from tokendance.gateway.v1 import status_service_pb2 as pb

# The longest time for a call is over: watching goes on with another.
_OVER = "deadline_exceeded"
_AGAIN_S = 2.0
_HOUR_S = 3600.0


def status(
    context: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and print each change.")] = False,
    history_days: Annotated[int, typer.Option(help="With the history of so many days, as JSON.", min=0, max=90)] = 0,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show what works, by model and as a whole. With TOKENDANCE_API_KEY or --base-url as callers see it, over REST."""
    from tokendance_cli.usage_view import holds_key

    asked = form_of(context, form)
    if holds_key(context, base_url, None, data_dir):
        from tokendance_cli import public_status
        from tokendance_cli.rest import Holder, api_key_of, base_url_of

        # Without a key one sees the public models, with it those that it may call.
        holder = Holder(base_url_of(base_url), api_key_of(None).strip())
        if watch:
            public_status.follow(holder, asked)
        else:
            public_status.show(holder, history_days, asked)
        return
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        if watch:
            _watch(client, asked)
            return
        answer = client.stubs.status.GetStatus(pb.GetStatusRequest(history_days=history_days))
    _show(answer.status, asked)


def nodes(context: typer.Context, *, data_dir: DataDir = None, form: FormatOption = None) -> None:
    """Show the nodes: which are alive, which configuration they serve, and how they are."""
    from tokendance.gateway.v1 import nodes_service_pb2 as nodes_pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.status_view import NODE_COLUMNS, node_row
    from tokendance_cli.tenant_view import every, show_rows

    newest = 0
    with admin_client(context, data_dir) as client:

        def ask(request: nodes_pb.ListNodesRequest) -> nodes_pb.ListNodesResponse:
            nonlocal newest
            page = client.stubs.nodes.ListNodes(request)
            newest = page.config_version
            return page

        found = every(ask, nodes_pb.ListNodesRequest(), "nodes")
    show_rows(form_of(context, form), found, NODE_COLUMNS, [node_row(one, newest) for one in found])


def routes(
    context: typer.Context,
    *,
    model: Annotated[str, typer.Option(help="Only of this model.", show_default=False)] = "",
    provider: Annotated[str, typer.Option(help="Only of this provider.", show_default=False)] = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show the routes of models with their health, as the node that answers sees it."""
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.key_request import resource
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.status_view import ROUTE_COLUMNS, route_row
    from tokendance_cli.tenant_view import every, show_rows

    request = pb.ListRouteHealthRequest(model=model, provider=resource("providers", provider) if provider else "")
    with admin_client(context, data_dir) as client:
        found = every(client.stubs.status.ListRouteHealth, request, "route_health")
    show_rows(form_of(context, form), found, ROUTE_COLUMNS, [route_row(one) for one in found])


def _show(status: pb.StatusSnapshot, form: Format) -> None:
    from tokendance_cli.status_view import MODEL_COLUMNS, head_lines, model_row

    if form is Format.JSON:
        import json

        from tokendance_facade.dialects.status import encode

        print_json(json.loads(encode(status)))
        return
    for line in head_lines(status):
        print(line)
    print_rows(MODEL_COLUMNS, [model_row(one) for one in status.models], empty="There is no model.")


def _watch(client: Client, form: Format) -> None:
    """Print a snapshot and then each change until interrupted; go on where a stream was cut off."""
    from tokendance import GatewayError
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.status_view import change_line

    token = ""
    while True:
        try:
            # The stub's default is that of a unary call.
            request = pb.WatchStatusRequest(resume_token=token)
            for message in client.stubs.status.WatchStatus(request, timeout=_HOUR_S):
                token = message.resume_token
                if form is Format.JSON:
                    _print_line(message)
                elif message.HasField("snapshot"):
                    _show(message.snapshot, form)
                elif message.HasField("change"):
                    print(change_line(message.change), flush=True)
        except GatewayError as error:
            if not token or not (error.retryable or error.code == _OVER):
                raise
            time.sleep(_AGAIN_S)
        except KeyboardInterrupt:
            return


def _print_line(message: pb.WatchStatusResponse) -> None:
    import json

    from tokendance_cli.tenant_view import document

    if message.WhichOneof("event"):
        print(json.dumps(document(message), ensure_ascii=False, separators=(",", ":")), flush=True)
