"""Checks chains of the audit trail against signed heads that were kept elsewhere: in the file of a sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance_cli.failures import USAGE, CommandError
from tokendance_server.domain.audit.heads import HeadVerifier, SignedHead
from tokendance_server.domain.audit.lines import chain_name, read_head

Ask = Callable[[pb.VerifyAuditChainRequest], pb.VerifyAuditChainResponse]


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """What was found: of the chain, and, by `signatures`, of the heads it was held against."""

    chain: str
    found: pb.VerifyAuditChainResponse
    heads: int
    signatures: str


def read_heads(path: Path) -> dict[str, list[SignedHead]]:
    """Return the heads in a file by chain, each once, in the order of their places. Raises CommandError.

    Two heads of one place that differ are both kept: one of them will not be in the chain.
    """
    heads: dict[str, set[SignedHead]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    head = read_head(line)
                except ValueError as error:
                    raise CommandError(f"Line {number} of {path} is a head that cannot be read.") from error
                if head is not None:
                    heads.setdefault(chain_name(head.organization_id), set()).add(head)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CommandError(f"The file {path} cannot be read: {reason}.", exit_code=USAGE) from error
    return {chain: sorted(found, key=lambda one: (one.head.sequence, one.time)) for chain, found in heads.items()}


def read_keys(paths: Sequence[Path]) -> list[HeadVerifier]:
    """Return the public keys in files of PEM. Raises CommandError."""
    keys = []
    for path in paths:
        try:
            keys.append(HeadVerifier(path.read_bytes()))
        except OSError as error:
            raise CommandError(f"The file {path} cannot be read: {error.strerror}.", exit_code=USAGE) from error
        except ValueError as error:
            raise CommandError(
                f"The file {path} holds no public key; `tokendance audit key` prints it.", exit_code=USAGE
            ) from error
    return keys


def check_chain(ask: Ask, chain: str, heads: Sequence[SignedHead], keys: Sequence[HeadVerifier]) -> ChainVerdict:
    """Check a chain whole, and that it has each head; the first thing that is wrong is what is told."""
    signatures = "checked" if keys else "by the node alone: no key was given"
    for one in heads if keys else ():
        if not any(key.signed(one) for key in keys):
            return ChainVerdict(chain, _unsigned(one), len(heads), "BAD")
    found = ask(pb.VerifyAuditChainRequest(parent=chain))
    for one in heads:
        if not found.valid:
            break
        # The rest of the chain was checked: only what is at this place is asked, or at the end, which is before it.
        place = min(one.head.sequence, found.head.sequence)
        asked = pb.VerifyAuditChainRequest(parent=chain, first_sequence=place, last_sequence=place)
        asked.expected_head.CopyFrom(_message(one))
        against = ask(asked)
        if not against.valid:
            found = pb.VerifyAuditChainResponse(
                checked_count=found.checked_count, first_break=against.first_break, head=found.head
            )
    return ChainVerdict(chain, found, len(heads), signatures)


def _message(one: SignedHead) -> pb.AuditChainHead:
    head = pb.AuditChainHead(
        sequence=one.head.sequence,
        digest=one.head.digest,
        signature=one.signature,
        signing_key_id=one.signing_key_id,
    )
    head.time.FromDatetime(one.time)
    return head


def _unsigned(one: SignedHead) -> pb.VerifyAuditChainResponse:
    return pb.VerifyAuditChainResponse(
        first_break=pb.AuditChainBreak(
            sequence=one.head.sequence,
            defect=pb.AUDIT_CHAIN_DEFECT_BAD_SIGNATURE,
            message=f"The head at {one.head.sequence}, said to be of the key {one.signing_key_id[:40]}, "
            "was signed by none of the keys.",
        )
    )
