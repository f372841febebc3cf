"""`tokendance providers`: the operator's view of the upstreams, over the running node's own socket."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_record, print_rows

if TYPE_CHECKING:
    from tokendance.gateway.v1 import models_service_pb2 as pb

app = typer.Typer(
    no_args_is_help=True,
    help="See the providers of a node, and give them credentials. `tokendance apply` changes the rest.",
)

credential_app = typer.Typer(no_args_is_help=True, help="Keep a provider's credential sealed in the database.")
app.add_typer(credential_app, name="credential")

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]


@app.command("list")
def list_providers(context: typer.Context, *, data_dir: DataDir = None, form: FormatOption = None) -> None:
    """List the providers, those of the settings file among them."""
    from tokendance.gateway.v1 import models_service_pb2
    from tokendance_cli.node_client import admin_client

    found: list[pb.Provider] = []
    request = models_service_pb2.ListProvidersRequest(page_size=1000)
    with admin_client(context, data_dir) as client:
        while True:
            page = client.stubs.models.ListProviders(request)
            found += page.providers
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
    if form_of(context, form) is Format.JSON:
        print_json([_document(one) for one in found])
        return
    print_rows(
        ["provider", "kind", "base url", "credential", "kept in"],
        [[_id(one), one.kind, one.base_url, _credential(one), _home(one)] for one in found],
        empty="There is no provider but the built-in demo.",
    )


@app.command("show")
def show_provider(
    context: typer.Context,
    provider: Annotated[str, typer.Argument(help="Its name.")],
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show one provider, without its credential."""
    from tokendance.gateway.v1 import models_service_pb2
    from tokendance_cli.node_client import admin_client

    name = f"providers/{provider.removeprefix('providers/')}"
    with admin_client(context, data_dir) as client:
        found = client.stubs.models.GetProvider(models_service_pb2.GetProviderRequest(name=name)).provider
    if form_of(context, form) is Format.JSON:
        print_json(_document(found))
        return
    print_record(
        [
            ("provider", _id(found)),
            ("label", found.public_label),
            ("kind", found.kind),
            ("base url", found.base_url),
            ("credential", _credential(found)),
            ("capabilities", ", ".join(found.capabilities)),
            ("headers", ", ".join(f"{name}: {value}" for name, value in sorted(found.extra_headers.items()))),
            ("further credentials", ", ".join(found.more_credential_references)),
            ("proxy", found.proxy_url),
            ("authorities", "its own beside the system's" if found.ca_bundle_pem else ""),
            ("client certificate", f"with the key {found.client_key_reference}" if found.client_key_reference else ""),
            ("kept in", _home(found)),
        ]
    )


@credential_app.command("set")
def set_credential(
    context: typer.Context,
    provider: Annotated[str, typer.Argument(help="The provider's name.")],
    data_dir: DataDir = None,
) -> None:
    """Read a credential from the terminal, unseen, or from standard input, and keep it sealed in the database.

    It replaces a reference, opens for this provider at its present address only, and is never shown again.
    """
    secret = sys.stdin.read() if not sys.stdin.isatty() else typer.prompt("Credential", hide_input=True)
    if not secret.strip():
        raise CommandError(
            "No credential came; type it, or pipe it in: `… credential set NAME < FILE`.", exit_code=USAGE
        )
    found = _change_credential(context, provider, data_dir, secret.strip())
    print(f"The credential of {_id(found)} is sealed, for {found.base_url} only.")


@credential_app.command("clear")
def clear_credential(
    context: typer.Context,
    provider: Annotated[str, typer.Argument(help="The provider's name.")],
    data_dir: DataDir = None,
) -> None:
    """Remove a provider's sealed credential. Calls go on without one, and the provider will likely refuse them."""
    found = _change_credential(context, provider, data_dir, "")
    print(f"The provider {_id(found)} has no sealed credential.")


def _change_credential(context: typer.Context, provider: str, data_dir: Path | None, secret: str) -> pb.Provider:
    from google.protobuf.field_mask_pb2 import FieldMask

    from tokendance.gateway.v1 import models_service_pb2
    from tokendance_cli.node_client import admin_client

    wanted = models_service_pb2.Provider(name=f"providers/{provider.removeprefix('providers/')}", credential=secret)
    request = models_service_pb2.UpdateProviderRequest(provider=wanted, update_mask=FieldMask(paths=["credential"]))
    with admin_client(context, data_dir) as client:
        changed: pb.Provider = client.stubs.models.UpdateProvider(request).provider
    return changed


def _credential(provider: pb.Provider) -> str:
    return provider.credential_reference or ("sealed" if provider.has_credential else "none")


def _document(provider: pb.Provider) -> dict[str, object]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(provider, preserving_proto_field_name=True)


def _id(provider: pb.Provider) -> str:
    return provider.name.removeprefix("providers/")


def _home(provider: pb.Provider) -> str:
    return "settings file" if provider.read_only else "database"
