"""The facade's listener over TCP: what a caller asserts is believed with the facade's certificate, and only then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from tests.certificates import FACADE_NAME, FACADE_NAMES, SERVER_NAMES, Authority, Certificate
from tests.server.services.edge import AUTHORIZATION, Edge, open_edge, unary

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completions_service_pb2_grpc as completions_grpc
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.caller_pb2 import CallerAssertion
from tokendance.rpc import CALLER_KEY, from_rpc
from tokendance.tls_files import TlsFiles
from tokendance_server.certificates import server_credentials
from tokendance_server.config import Limits
from tokendance_server.listeners import Listener, by_service
from tokendance_server.services.call import Trust
from tokendance_server.services.facade_peers import FacadePeers
from tokendance_server.services.local_channel import MethodTable
from tokendance_server.startup import StartupError

SPIFFE = "spiffe://example.com/tokendance/facade"
FORGED_ID = "req_0123456789abcdefghijklmnop"
FORGED = {
    "request_id": CallerAssertion(request_id=FORGED_ID),
    "surface": CallerAssertion(surface=errors_pb2.SURFACE_CHAT),
    "address": CallerAssertion(address="192.0.2.7"),
    "user_agent": CallerAssertion(user_agent="forged/1.0"),
    "client_kind": CallerAssertion(client_kind="forged-kind"),
    "client_version": CallerAssertion(client_version="9.9.9"),
    "http_route": CallerAssertion(http_route="POST /v1/forged"),
    "host": CallerAssertion(host="forged.example"),
    "direct": CallerAssertion(direct=True),
}
"""One assertion for each field."""


def test_every_field_of_an_assertion_is_forged_here() -> None:
    """A field that is added must be tried, too."""
    assert set(FORGED) == set(CallerAssertion.DESCRIPTOR.fields_by_name)
    for field, assertion in FORGED.items():
        assert [present.name for present, _ in assertion.ListFields()] == [field]


@dataclass
class House:
    """A listener, what stands behind it, and the authority of its certificates."""

    edge: Edge
    address: str
    authority: Authority
    folder: Path

    @asynccontextmanager
    async def caller(
        self, presented: Certificate | None = None, *, tls: bool = True
    ) -> AsyncIterator[grpc.aio.Channel]:
        """A channel of somebody who trusts the listener."""
        pems = (None, None) if presented is None else (presented.key, presented.certificate)
        credentials = grpc.ssl_channel_credentials(self.authority.certificate, *pems)
        opening = grpc.aio.secure_channel(self.address, credentials) if tls else grpc.aio.insecure_channel(self.address)
        async with opening as channel:
            yield channel


@asynccontextmanager
async def _house(folder: Path, *, facades: bool, tls: bool = True, now: datetime | None = None) -> AsyncIterator[House]:
    """Open a listener: for facades and their certificates only, or for everybody, with TLS or without."""
    authority = Authority()
    files = authority.sign(SERVER_NAMES).write(folder, "server", authority.certificate if facades else None)
    peers = FacadePeers({FACADE_NAME, SPIFFE}, lambda: now or datetime.now(UTC)) if facades else None
    async with open_edge("local", trust=Trust.FACADE if facades else Trust.NETWORK, peers=peers) as edge:
        table = MethodTable()
        completions_grpc.add_CompletionsServiceServicer_to_server(edge.servicer, table)  # type: ignore[arg-type]
        listener = Listener(
            "127.0.0.1:0",
            edge.chain,
            by_service(table.handlers),
            Limits(),
            reflect=False,
            credentials=server_credentials(files) if tls else None,
            facades=facades,
        )
        await listener.start()
        try:
            yield House(edge, listener.address, authority, folder)
        finally:
            await listener.stop(0)


async def _ask(channel: grpc.aio.Channel, assertion: CallerAssertion) -> GatewayError | None:
    """Make one call with a good key; returns how it failed."""
    metadata = (AUTHORIZATION, (CALLER_KEY, assertion.SerializeToString()))
    try:
        await completions_grpc.CompletionsServiceStub(channel).CreateCompletion(
            unary("echo"), metadata=metadata, timeout=5
        )
    except grpc.aio.AioRpcError as failure:
        return from_rpc(failure)
    return None


def _nothing_believed(house: House, lines: str) -> None:
    (call,) = house.edge.servicer.calls
    assert call.caller is None
    assert (call.address, call.surface) == ("127.0.0.1", errors_pb2.SURFACE_GRPC)
    assert call.request_id != FORGED_ID
    assert "forged" not in lines


@pytest.mark.parametrize("field", FORGED)
@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
async def test_callers_of_the_common_listener_assert_nothing(
    tmp_path: Path, field: str, tls: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are served by their key; the look-alike of an assertion is as if it had not come."""
    async with _house(tmp_path, facades=False, tls=tls) as house, house.caller(tls=tls) as channel:
        assert await _ask(channel, FORGED[field]) is None
        _nothing_believed(house, capsys.readouterr().out)


@pytest.mark.parametrize("field", FORGED)
async def test_a_facade_is_believed_by_its_certificate(tmp_path: Path, field: str) -> None:
    """Every field arrives."""
    async with _house(tmp_path, facades=True) as house, house.caller(house.authority.sign(FACADE_NAMES)) as channel:
        assert await _ask(channel, FORGED[field]) is None
        (call,) = house.edge.servicer.calls
        assert call.caller == FORGED[field]
        if field in ("request_id", "surface", "address"):
            assert getattr(call, field) == getattr(FORGED[field], field)


OTHERS: dict[str, tuple[tuple[x509.GeneralName, ...], str]] = {
    "another name": ((x509.DNSName("billing.gateway.example"),), "a test"),
    "a name below": ((x509.DNSName(f"x.{FACADE_NAME}"),), "a test"),
    "a pattern": ((x509.DNSName("*.gateway.example"),), "a test"),
    "an e-mail address": ((x509.RFC822Name(FACADE_NAME),), "a test"),
    "a longer path": ((x509.UniformResourceIdentifier(f"{SPIFFE}/x"),), "a test"),
    "a subject only": ((), FACADE_NAME),
    "the server's own": (SERVER_NAMES, "a test"),
}
"""Alternative names and common name of certificates that the authority signed, and that are no facade's."""


@pytest.mark.parametrize("field", FORGED)
@pytest.mark.parametrize("other", OTHERS)
async def test_a_certificate_of_somebody_else_is_served_nothing(tmp_path: Path, field: str, other: str) -> None:
    """Its own authority signed it, so it learns what is wrong, under a request id that it did not choose."""
    names, common_name = OTHERS[other]
    async with _house(tmp_path, facades=True) as house:
        certificate = house.authority.sign(names, common_name=common_name)
        async with house.caller(certificate) as channel:
            error = await _ask(channel, FORGED[field])
        assert error is not None
        assert (error.code, error.origin) == ("permission_denied", "caller")
        assert "the gateway's own facade" in error.message
        assert error.request_id != FORGED_ID
        assert house.edge.servicer.calls == []
        assert house.edge.ended() == [{"surface": "grpc", "model": "", "code": "permission_denied"}]


STRANGERS = ("plaintext", "no certificate", "another authority", "expired", "expired, and of another authority")


@pytest.mark.parametrize("field", FORGED)
@pytest.mark.parametrize("stranger", STRANGERS)
async def test_without_a_good_certificate_nobody_gets_as_far_as_a_call(
    tmp_path: Path, field: str, stranger: str
) -> None:
    """The handshake refuses them; not even a refused call is counted."""
    async with _house(tmp_path, facades=True) as house:
        ago = timedelta(minutes=-1)
        presented = {
            "another authority": Authority().sign(FACADE_NAMES),
            "expired": house.authority.sign(FACADE_NAMES, valid_for=ago),
            "expired, and of another authority": Authority().sign(FACADE_NAMES, valid_for=ago),
        }
        async with house.caller(presented.get(stranger), tls=stranger != "plaintext") as channel:
            error = await _ask(channel, FORGED[field])
        assert error is not None
        assert error.code == "service_stopping"  # gRPC's bare UNAVAILABLE: there was no connection
        assert house.edge.servicer.calls == []
        assert house.edge.ended() == []


async def test_a_facade_is_also_known_by_an_address_of_its_identity(tmp_path: Path) -> None:
    """As service meshes name what runs in them."""
    async with _house(tmp_path, facades=True) as house:
        certificate = house.authority.sign([x509.UniformResourceIdentifier(SPIFFE)])
        async with house.caller(certificate) as channel:
            assert await _ask(channel, FORGED["address"]) is None
        assert house.edge.servicer.calls[0].address == "192.0.2.7"


async def test_a_connection_does_not_outlive_its_certificate(tmp_path: Path) -> None:
    """The handshake was good; the next call after its end is not."""
    later = datetime.now(UTC) + timedelta(hours=25)
    async with (
        _house(tmp_path, facades=True, now=later) as house,
        house.caller(house.authority.sign(FACADE_NAMES)) as channel,
    ):
        error = await _ask(channel, FORGED["address"])
        assert error is not None
        assert error.code == "permission_denied"
        assert house.edge.servicer.calls == []


async def test_a_facade_that_asserts_twice_is_taken_at_its_first_word(tmp_path: Path) -> None:
    """Nothing behind the facade can add to what it says."""
    async with _house(tmp_path, facades=True) as house, house.caller(house.authority.sign(FACADE_NAMES)) as channel:
        pairs = [(CALLER_KEY, FORGED[field].SerializeToString()) for field in ("address", "user_agent")]
        stub = completions_grpc.CompletionsServiceStub(channel)
        await stub.CreateCompletion(unary("echo"), metadata=(AUTHORIZATION, *pairs), timeout=5)
        assert house.edge.servicer.calls[0].caller == FORGED["address"]


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """Files that belong together."""
    authority = Authority()
    return authority.sign(SERVER_NAMES).write(tmp_path, "server", authority.certificate)


async def test_new_certificates_are_taken_by_the_next_connection(tmp_path: Path) -> None:
    """Both sides may change their authority while the server runs; a key that does not fit changes nothing."""
    async with _house(tmp_path, facades=True) as house:
        before, after = house.authority, Authority()
        facade = before.sign(FACADE_NAMES)
        async with house.caller(facade) as open_before:
            assert await _ask(open_before, FORGED["address"]) is None

            (tmp_path / "server.key").write_bytes(after.sign(SERVER_NAMES).key)
            async with house.caller(facade) as channel:
                assert await _ask(channel, FORGED["address"]) is None

            after.sign(SERVER_NAMES).write(tmp_path, "server", after.certificate)
            async with house.caller(facade) as channel:
                assert await _ask(channel, FORGED["address"]) is not None
            house.authority = after
            async with house.caller(facade) as channel:
                assert await _ask(channel, FORGED["address"]) is not None
            async with house.caller(after.sign(FACADE_NAMES)) as channel:
                assert await _ask(channel, FORGED["address"]) is None
            # What is connected stays so.
            assert await _ask(open_before, FORGED["address"]) is None
    assert len(house.edge.servicer.calls) == 4


def test_certificates_that_cannot_be_used_stop_the_start(files: TlsFiles) -> None:
    """In one line."""
    files.key.write_bytes(Authority().sign(SERVER_NAMES).key)
    with pytest.raises(StartupError, match=r"server\.key is not the private key of .*server\.pem"):
        server_credentials(files)
