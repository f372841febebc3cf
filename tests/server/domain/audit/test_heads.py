"""Signed heads: good under the key that signed them, for what they said, and read back from a line."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tokendance.gateway.v1 import access_pb2
from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance_cli.audit_view import document
from tokendance_server.domain.audit.events import PLATFORM, ChainHead, Origin, PersonalData, event, seal
from tokendance_server.domain.audit.heads import HeadSigner, HeadVerifier, new_signing_key
from tokendance_server.domain.audit.lines import event_line, head_line, read_head
from tokendance_server.domain.principals import Principal
from tokendance_server.services.audit import event_message

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
MINE = "org_01h455vb4pex5vsknk084sn02q"
HEAD = ChainHead(7, bytes(range(32)))
SIGNER = HeadSigner(new_signing_key())


@pytest.mark.parametrize("chain", [MINE, PLATFORM])
def test_a_head_survives_its_line(chain: str) -> None:
    """And is still signed."""
    signed = SIGNER.sign(chain, HEAD, NOW)
    read = read_head(head_line(signed))
    assert read == signed
    assert HeadVerifier(SIGNER.public_pem).signed(read)


@pytest.mark.parametrize(
    "changes",
    [
        {"organization_id": PLATFORM},
        {"head": ChainHead(8, HEAD.digest)},
        {"head": ChainHead(7, bytes(32))},
        {"time": NOW + timedelta(microseconds=1)},
        {"signature": bytes(64)},
        {"signature": b""},
        {"signing_key_id": "aud_0"},
    ],
)
def test_whatever_is_changed_is_noticed(changes: dict[str, object]) -> None:
    """Each part of a head is signed."""
    signed = SIGNER.sign(MINE, HEAD, NOW)
    assert not HeadVerifier(SIGNER.public_pem).signed(replace(signed, **changes))  # type: ignore[arg-type]  # on purpose


def test_another_key_did_not_sign() -> None:
    """Nor does it have the same id."""
    other = HeadSigner(new_signing_key())
    assert other.key_id != SIGNER.key_id
    assert not HeadVerifier(other.public_pem).signed(SIGNER.sign(MINE, HEAD, NOW))


@pytest.mark.parametrize("pem", [b"", b"no key", SIGNER.public_pem])
def test_what_is_no_key_is_refused(pem: bytes) -> None:
    """With a ValueError, for one sentence to the operator."""
    with pytest.raises(ValueError, match=r"."):
        HeadSigner(pem)


@pytest.mark.parametrize("line", ["", "{", "[]", "1", '{"name":"auditEvents/e"}', '{"head":1}', '{"head":{"chain":"pl'])
def test_other_lines_are_no_heads(line: str) -> None:
    """Events, and what a killed process left."""
    assert read_head(line) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("sequence", 0), ("sequence", "7"), ("time", "soon"), ("time", "2026-06-01"), ("digest", "x"), ("digest", None)],
)
def test_a_head_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    """It must not be passed over as if it were no head."""
    said = json.loads(head_line(SIGNER.sign(MINE, HEAD, NOW)))
    said["head"][field] = value
    with pytest.raises(ValueError, match=r"."):
        read_head(json.dumps(said))


def test_a_line_is_what_an_export_writes() -> None:
    """One form for whoever reads both."""
    caller = Principal(frozenset({access_pb2.CALLER_KIND_MEMBER}), "m")
    draft = event(
        caller,
        Origin("req_1", pb.AUDIT_SOURCE_REST, "192.0.2.7", "curl\u2028\n"),
        organization_id=MINE,
        time=NOW,
        action="key.update",
        resource="organizations/o/keys/k",
        before={"purpose": "ü\n"},
        after={"purpose": ""},
        personal=(PersonalData("after", "m", {"email": "member@example.com"}),),
        reason="why",
    )
    for one in (draft, replace(draft, organization_id=PLATFORM, personal=(), before=None, actor="gateway")):
        sealed = seal(one, ChainHead())
        line = event_line(sealed)
        assert json.loads(line) == document(event_message(sealed))
        assert line.isascii()
        assert line.isprintable()
