"""How an error travels: whatever is packed is read back, and whatever else comes is read as well as can be."""

import grpc
import pytest

from tokendance.errors import GatewayError, table
from tokendance.gateway.v1 import errors_pb2
from tokendance.rpc import STATUS_DETAILS_KEY, from_rpc, from_status, status_code, to_status


class Failure:
    def __init__(self, code: grpc.StatusCode, details: str, *metadata: tuple[str, str | bytes]) -> None:
        self._code = code
        self._details = details
        self._metadata = metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> object:
        return self._metadata


@pytest.mark.parametrize("reason", [reason for reason, _ in table()], ids=errors_pb2.ErrorReason.Name)
def test_every_reason_survives_the_way(reason: errors_pb2.ErrorReason.ValueType) -> None:
    """from_status(to_status(error)) is the error, for every row of the table."""
    sent = GatewayError(
        reason,
        "Say what to do.",
        param="messages[0].role",
        retry_after_s=3,
        metadata={"limit": "10"},
        request_id="req_1",
        origin="provider",
    )
    got = from_status(to_status(sent))
    assert vars(got) == vars(sent)
    assert status_code(got) is not grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "service_stopping"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded"),
        (grpc.StatusCode.UNKNOWN, "internal_error"),
        (grpc.StatusCode.UNIMPLEMENTED, "unimplemented"),
    ],
)
def test_bare_status_decides_by_its_code(code: grpc.StatusCode, expected: str) -> None:
    """The transport's own errors carry no details of ours; the request id may still be there."""
    error = from_rpc(Failure(code, "why", ("x-request-id", "req_1")))
    assert (error.code, error.message, error.request_id) == (expected, "why", "req_1")


def test_details_that_are_no_status_are_passed_over() -> None:
    """An intermediary's garbage never hides the error itself."""
    error = from_rpc(Failure(grpc.StatusCode.NOT_FOUND, "gone", (STATUS_DETAILS_KEY, b"\xff\xff\xff")))
    assert (error.code, error.message) == ("not_found", "gone")


def test_reason_newer_than_the_client_decides_by_its_code() -> None:
    """An ErrorInfo with a reason that this client does not know falls back on the status."""
    status = to_status(GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, "gone"))
    packed = status.SerializeToString().replace(b"NOT_FOUND", b"LATER_ONE")
    error = from_rpc(Failure(grpc.StatusCode.NOT_FOUND, "gone", (STATUS_DETAILS_KEY, packed)))
    assert error.code == "not_found"
