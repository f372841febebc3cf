"""Chains held against signed heads from a sink's file: cut, written anew, or signed by somebody else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance_cli.audit_heads import check_chain, read_heads, read_keys
from tokendance_cli.failures import CommandError
from tokendance_server.domain.audit.events import AuditEvent, ChainHead, Origin, event
from tokendance_server.domain.audit.heads import HeadSigner, HeadVerifier, SignedHead, new_signing_key
from tokendance_server.domain.audit.lines import head_line
from tokendance_server.domain.audit.verify import verify_chain
from tokendance_server.domain.principals import GATEWAY
from tokendance_server.stores.memory_audit import MemoryAuditStore

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ORGANIZATION = "org_01h455vb4pex5vsknk084sn02q"
CHAIN = f"organizations/{ORGANIZATION}"
SIGNER = HeadSigner(new_signing_key())
KEYS = [HeadVerifier(SIGNER.public_pem)]


class Gateway:
    """Answers as the gateway does, from a chain in memory."""

    def __init__(self, count: int = 8, text: str = "") -> None:
        self.store = MemoryAuditStore()
        self.events: list[AuditEvent] = []
        self.record(count, text)

    def record(self, count: int, text: str = "") -> None:
        """Record events."""
        for number in range(count):
            draft = event(
                GATEWAY, Origin(), organization_id=ORGANIZATION, time=NOW, action="a.b", resource=f"{text}{number}"
            )
            self.events.append(asyncio.run(self.store.record(draft)))

    def head(self, place: int, signer: HeadSigner = SIGNER) -> SignedHead:
        """Return the signed head at a place."""
        head = ChainHead(place, self.events[place - 1].digest)
        return signer.sign(ORGANIZATION, head, NOW + timedelta(hours=place))

    def verify(self, asked: pb.VerifyAuditChainRequest) -> pb.VerifyAuditChainResponse:
        """Answer."""
        kept = asked.expected_head
        report = asyncio.run(
            verify_chain(
                self.store,
                ORGANIZATION,
                first=asked.first_sequence or 1,
                last=asked.last_sequence,
                expected=ChainHead(kept.sequence, kept.digest) if asked.HasField("expected_head") else None,
            )
        )
        answer = pb.VerifyAuditChainResponse(
            valid=report.broken is None,
            checked_count=report.checked,
            head=pb.AuditChainHead(sequence=report.head.sequence, digest=report.head.digest),
        )
        if report.broken is not None:
            answer.first_break.sequence = report.broken.sequence
            answer.first_break.defect = report.broken.defect
            answer.first_break.message = report.broken.message
        return answer


def _told(gateway: Gateway, heads: list[SignedHead], keys: Any = KEYS) -> tuple[bool, int, int]:
    found = check_chain(gateway.verify, CHAIN, heads, keys).found
    return found.valid, found.first_break.sequence, found.first_break.defect


def test_a_chain_that_has_every_head_is_whole() -> None:
    """Its last end among them; and what was written since does no harm."""
    gateway = Gateway()
    heads = [gateway.head(place) for place in (1, 5, 8)]
    assert _told(gateway, heads)[0]
    gateway.record(3)
    verdict = check_chain(gateway.verify, CHAIN, heads, [])
    assert (verdict.found.valid, verdict.found.checked_count, verdict.heads) == (True, 11, 3)
    assert verdict.signatures.startswith("by the node")


@pytest.mark.parametrize("left", [0, 1, 4, 7])
def test_a_chain_that_was_cut_is_noticed(left: int) -> None:
    """Although what is left is whole, head and all; the first place that is gone is named."""
    whole = Gateway()
    heads = [whole.head(8)]
    whole.store._chains[ORGANIZATION] = whole.events[:left]
    assert _told(whole, heads) == (False, left + 1, pb.AUDIT_CHAIN_DEFECT_CUT_SHORT)


def test_a_chain_that_was_written_anew_is_noticed() -> None:
    """Although every digest in it fits; the first head that is not in it is named."""
    first = Gateway(3)
    kept = [first.head(2)]
    first.record(5)
    heads = [*kept, first.head(5), first.head(8)]
    forged = Gateway(0)
    forged.store._chains[ORGANIZATION] = first.events[:3]
    forged.record(9, "forged")
    assert forged.verify(pb.VerifyAuditChainRequest(parent=CHAIN)).valid
    assert _told(forged, heads) == (False, 5, pb.AUDIT_CHAIN_DEFECT_CHANGED)


def test_a_head_of_somebody_else_is_noticed() -> None:
    """Who forged the chain could forge a head for it, but not its signature."""
    gateway = Gateway()
    stranger = HeadSigner(new_signing_key())
    told = _told(gateway, [gateway.head(2), gateway.head(8, stranger)])
    assert told == (False, 8, pb.AUDIT_CHAIN_DEFECT_BAD_SIGNATURE)
    both = [*KEYS, HeadVerifier(stranger.public_pem)]
    assert _told(gateway, [gateway.head(2), gateway.head(8, stranger)], both)[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of a sink."""
    return tmp_path / "audit.jsonl"


def test_heads_are_read_from_among_events(file: Path) -> None:
    """Each once, though it was written twice; torn lines are passed over."""
    gateway = Gateway()
    lines = [head_line(gateway.head(8)), '{"sequence":9}', '{"head":{"cha', "", head_line(gateway.head(2))]
    file.write_text("\n".join([*lines, *lines]))
    assert read_heads(file) == {CHAIN: [gateway.head(2), gateway.head(8)]}


@pytest.mark.parametrize("content", [b'{"head":{}}', b"\xff\xfe"])
def test_what_cannot_be_read_is_refused(file: Path, content: bytes) -> None:
    """As a file that is not there is: nothing is taken for checked that was not."""
    file.write_bytes(content)
    for path in (file, file.parent / "missing"):
        with pytest.raises(CommandError):
            read_heads(path)
        with pytest.raises(CommandError):
            read_keys([path])
