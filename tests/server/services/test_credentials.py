"""The credential of a call: what counts as one, and who a caller is without."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from tests.server.services.edge import CACHED_KEY, KEY, Edge, Pairs, ask

from tokendance.errors import GatewayError
from tokendance.rpc import from_rpc
from tokendance_server.services.credentials import bearer_of

GOOD: tuple[Pairs, ...] = (
    (("authorization", f"Bearer {KEY}"),),
    (("authorization", f"bearer {KEY}"),),
    (("authorization", f"BEARER {KEY}"),),
    (("authorization", f"Bearer   {KEY} "),),
    (("authorization", f"Bearer {KEY}"), ("authorization", f"bearer {KEY}")),
    (("x-other", "1"), ("authorization", f"Bearer {KEY}"), ("cookie", "theme=dark; session=eyJh.eyJh.x")),
)
BAD: dict[str, tuple[Pairs, str]] = {
    "missing": ((), "missing_api_key"),
    "elsewhere": ((("x-api-key", KEY),), "missing_api_key"),
    "in a cookie": ((("authorization", f"Bearer {KEY}"), ("cookie", "a=1; key=tdk_other")), "credential_misplaced"),
    "another's in a cookie": ((("cookie", "key=sk-ant-0123456789abcdef"),), "credential_misplaced"),
    "empty": ((("authorization", ""),), "invalid_api_key"),
    "scheme only": ((("authorization", "Bearer "),), "invalid_api_key"),
    "no scheme": ((("authorization", KEY),), "invalid_api_key"),
    "another scheme": ((("authorization", f"Basic {KEY}"),), "invalid_api_key"),
    "unknown": ((("authorization", "Bearer tdk_unknown"),), "invalid_api_key"),
    "two": ((("authorization", f"Bearer {KEY}"), ("authorization", "Bearer tdk_x")), "credentials_conflict"),
    "two cases": (
        (("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY.upper()}")),
        "credentials_conflict",
    ),
    "good and bad scheme": ((("authorization", f"Bearer {KEY}"), ("authorization", f"Basic {KEY}")), "invalid_api_key"),
}


@pytest.mark.parametrize("metadata", GOOD, ids=repr)
def test_a_bearer_credential_is_read(metadata: Pairs) -> None:
    """The scheme in any case, with any space around; the same one twice is one."""
    assert bearer_of(metadata) == KEY


def test_bytes_are_no_credential() -> None:
    """A value that is no text is of no scheme."""
    with pytest.raises(GatewayError) as raised:
        bearer_of((("authorization", b"Bearer " + KEY.encode()),))
    assert raised.value.code == "invalid_api_key"


@pytest.mark.parametrize(("metadata", "code"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("rpc", ["unary", "stream"])
async def test_a_call_without_a_good_credential_is_refused(edge: Edge, rpc: str, metadata: Pairs, code: str) -> None:
    """Typed, as the caller's mistake, and the servicer does not run."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(edge, rpc, "echo", metadata=metadata)
    error = from_rpc(raised.value)
    assert (error.code, error.origin) == (code, "caller")
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert edge.servicer.started == 0
    await edge.at_rest()


@pytest.mark.parametrize("metadata", GOOD[:1] + GOOD[4:], ids=repr)
async def test_a_call_with_a_good_credential_runs_as_its_owner(edge: Edge, metadata: Pairs) -> None:
    """The servicer knows whose key it was."""
    await ask(edge, "unary", "echo", metadata=metadata)
    assert edge.servicer.calls[0].identity.key_id == "good"
    assert edge.servicer.calls[0].identity.organization == "organizations/acme"


async def test_a_key_at_hand_asks_no_store(edge: Edge) -> None:
    """The cache answers without a wait."""
    await ask(edge, "unary", "echo", metadata=(("authorization", f"Bearer {CACHED_KEY}"),))
    assert edge.servicer.calls[0].identity.key_id == "cached"
    assert edge.keys.verified == 0
