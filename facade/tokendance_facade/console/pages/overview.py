"""The start: where somebody comes in, and what their organization is about now."""

from __future__ import annotations

from tokendance.gateway.v1 import keys_service_pb2, organizations_service_pb2, quota_service_pb2, usage_pb2
from tokendance_facade.console import words
from tokendance_facade.console.pages.limits import burn_down, burn_downs, limit_rows, quota_table
from tokendance_facade.console.pages.names import read_names
from tokendance_facade.console.pages.plots import usage_by_day
from tokendance_facade.console.views import Block, Cards, Chart, Notice, Table, View
from tokendance_facade.console.visit import MANAGERS, PLATFORM, READERS, Visit

_DAYS = 30


async def start(visit: Visit) -> str | View:
    """Lead to where the person belongs."""
    if visit.home:
        return f"/console/{visit.home}/overview"
    if visit.is_any(PLATFORM | READERS):
        return "/console/organizations"
    return View("Welcome", [Notice("You belong to no organization yet; ask an administrator to invite you.", "warn")])


async def overview(visit: Visit) -> View:
    """Show keys, requests, limits and usage of an organization, as far as the person may see them."""
    names = await read_names(visit)
    keys = await visit.call(
        visit.stubs.keys.ListKeys,
        keys_service_pb2.ListKeysRequest(
            parent=visit.organization, page_size=1000, state=keys_service_pb2.KEY_STATE_ACTIVE
        ),
    )
    overdue = await visit.call(
        visit.stubs.keys.ListKeys,
        keys_service_pb2.ListKeysRequest(parent=visit.organization, page_size=1000, rotation_overdue=True),
    )
    waiting = await visit.call(
        visit.stubs.keys.ListKeyRequests,
        keys_service_pb2.ListKeyRequestsRequest(
            parent=visit.organization, page_size=1000, state=keys_service_pb2.KEY_REQUEST_STATE_PENDING
        ),
    )
    base = visit.base
    cards = Cards(
        [
            ("Keys that work", _many(keys.keys, keys.next_page_token), "", f"{base}/keys?state=1"),
            ("Rotations overdue", _many(overdue.keys, overdue.next_page_token), "", f"{base}/keys?overdue=yes"),
            ("Requests waiting", _many(waiting.key_requests, waiting.next_page_token), "", f"{base}/requests?state=1"),
        ]
    )
    quotas = await _tightest(visit)
    blocks: list[Block] = [cards]
    if quotas is not None:
        blocks += [
            Chart(
                f"What is left: {words.rule(limit.rule)}, {name}",
                burn_down(visit, limit, name),
                Table(
                    "",
                    ["Limit", "Spent", "Held", "Left", "Starts anew", "Runs out"],
                    limit_rows([limit]),
                    words.NOTHING,
                ),
            )
            for name, limit in burn_downs(quotas, names)
        ]
        blocks.append(quota_table(visit, quotas[:10], names, "Limits that are used most"))
    blocks += await usage_by_day(visit, usage_pb2.UsageFilter(), days=_DAYS)
    organization = await _title(visit)
    lead = "What your keys may spend and what they have spent."
    return View(organization, blocks, lead if not visit.is_any(MANAGERS) else "The organization at a glance.")


def _many(found: object, more: str) -> str:
    size = len(found)  # type: ignore[arg-type] # a repeated field
    return f"{size:,}+" if more else f"{size:,}"


async def _tightest(visit: Visit) -> list[quota_service_pb2.Quota] | None:
    request = quota_service_pb2.ListQuotasRequest(parent=visit.organization, page_size=1000)
    answer = await visit.try_call(visit.stubs.quota.ListQuotas, request)
    if answer is None:
        return None

    def used(one: quota_service_pb2.Quota) -> float:
        return max(((two.spent + two.held) / max(two.rule.limit, 1) for two in one.limits), default=0.0)

    return sorted(answer.quotas, key=used, reverse=True)


async def _title(visit: Visit) -> str:
    request = organizations_service_pb2.GetOrganizationRequest(name=visit.organization)
    answer = await visit.call(visit.stubs.organizations.GetOrganization, request)
    return str(answer.organization.display_name)
