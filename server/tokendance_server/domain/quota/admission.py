"""Whether a claim fits into its limits, and which limit to name where it does not; the same for every counter."""

from __future__ import annotations

from collections.abc import Sequence

from tokendance_server.domain.quota.claims import CONCURRENT, Claim, Standing
from tokendance_server.domain.quota.windows import MINUTE


def room(claim: Claim, standings: Sequence[Standing]) -> tuple[int, list[Standing]]:
    """Return how many tokens of an answer the limits leave to a claim, and those that refuse it; soft ones never do."""
    output = claim.output_tokens
    refusing = []
    for standing in standings:
        rule = standing.row.rule
        if rule.soft:
            continue
        left = rule.limit - standing.spent - standing.held
        if claim.need(rule.metric, output) <= left:
            continue
        fits = claim.affordable(rule.metric, left)
        if fits is None or fits < claim.least_output_tokens:
            refusing.append(standing)
        else:
            output = fits
    return output, refusing


def gravest(claim: Claim, refusing: Sequence[Standing]) -> Standing:
    """Return the limit to name of those that refuse a claim: one that waiting does not cure before one that it does.

    A caller who was told to try again, and is then told that the quota is spent, has waited for nothing.
    """
    return max(refusing, key=lambda standing: _gravity(claim, standing))


def _gravity(claim: Claim, standing: Standing) -> int:
    rule = standing.row.rule
    asked = claim.need(rule.metric, claim.least_output_tokens)
    if rule.metric == CONCURRENT:
        return 0
    if rule.window == MINUTE and asked <= rule.limit:
        return 2
    return 3 if standing.spent + asked > rule.limit else 1
