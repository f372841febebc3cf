"""`tokendance errors`: the one error table, as the schema has it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_record, print_rows


def errors(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="One code alone, such as model_not_found.", show_default=False)] = "",
    form: FormatOption = None,
) -> None:
    """Show every error code: what it is over REST and gRPC, whether a repeat may help, what to check first."""
    rows = _rows()
    as_json = form_of(context, form) is Format.JSON
    if code:
        wanted = code.strip().lower().removeprefix("error_reason_")
        row = next((row for row in rows if row["code"] == wanted), None)
        if row is None:
            raise CommandError(
                f"There is no error code {code!r}.", "`tokendance errors` lists them all.", exit_code=USAGE
            )
        _show(row, as_json=as_json)
    elif as_json:
        print_json(rows)
    else:
        print_rows(
            ["code", "family", "http", "grpc", "retryable", "check first"],
            [
                [
                    row["code"],
                    row["family"],
                    str(row["http_status"]),
                    row["grpc_status"],
                    "yes" if row["retryable"] else "no",
                    row["check_first"],
                ]
                for row in rows
            ],
            empty="The table is empty.",
        )


def _show(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    print_record(
        [
            ("code", row["code"]),
            ("family", row["family"]),
            ("HTTP", f"{row['http_status']} {row['type']}"),
            ("gRPC", row["grpc_status"]),
            ("retryable", "yes" if row["retryable"] else "no"),
            ("check first", row["check_first"]),
            *((f"on {one['surface']}", _differs(one)) for one in row["overrides"]),
        ]
    )


def _differs(override: dict[str, Any]) -> str:
    return " ".join(str(override[name]) for name in ("http_status", "type", "code") if override[name])


def _rows() -> list[dict[str, Any]]:
    from tokendance.errors import table
    from tokendance.gateway.v1 import errors_pb2 as pb

    status = pb.ErrorSpec.DESCRIPTOR.fields_by_name["grpc_status"].enum_type
    assert status is not None
    return [
        {
            "code": spec.code,
            "family": pb.ErrorFamily.Name(spec.family).removeprefix("ERROR_FAMILY_").lower(),
            "http_status": spec.http_status,
            "type": spec.type,
            "grpc_status": status.values_by_number[spec.grpc_status].name,
            "retryable": spec.retryable,
            "check_first": spec.check_first,
            "overrides": [
                {
                    "surface": pb.Surface.Name(one.surface).removeprefix("SURFACE_").lower(),
                    "http_status": one.http_status,
                    "type": one.type,
                    "code": one.code,
                }
                for one in spec.overrides
            ],
        }
        for _, spec in table()
    ]
