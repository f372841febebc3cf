"""Every page of the console in one table: its path, who may see it, and what its form does."""

from __future__ import annotations

from tokendance_facade.console.pages import (
    audit,
    calls,
    catalogue,
    keys,
    me,
    operations,
    organizations,
    overview,
    people,
    quota,
    requests,
    usage,
)
from tokendance_facade.console.routes import Page
from tokendance_facade.console.visit import AUDITOR, EVERYBODY, MANAGERS, MEMBER, ORGANIZATION_ADMIN, PLATFORM, READERS

_ASKERS = frozenset({MEMBER, ORGANIZATION_ADMIN})
_KEEPERS = frozenset({MEMBER}) | MANAGERS
_PLATFORM_READERS = PLATFORM | {AUDITOR}


def all_pages() -> tuple[Page, ...]:
    """Return the table. Of two that match one path the first counts."""
    return (*_of_everybody(), *_of_platform(), *_of_keys(), *_of_organization())


def _of_everybody() -> tuple[Page, ...]:
    return (
        Page("/console", EVERYBODY, overview.start),
        Page("/console/me", EVERYBODY, me.show, me.save),
        Page("/console/lookup", EVERYBODY, calls.look_up),
    )


def _of_platform() -> tuple[Page, ...]:
    providers, models, incidents = "/console/providers", "/console/models", "/console/incidents"
    base = "/console/{organization}"
    return (
        Page("/console/organizations", _PLATFORM_READERS, organizations.list_organizations),
        Page("/console/organizations/new", PLATFORM, organizations.ask_new, organizations.new),
        Page(f"{base}/settings", PLATFORM, organizations.settings, organizations.change),
        Page(f"{base}/suspend", PLATFORM, organizations.ask_suspend, organizations.suspend),
        Page(f"{base}/resume", PLATFORM, organizations.ask_resume, organizations.resume),
        Page(providers, _PLATFORM_READERS, catalogue.list_providers),
        Page(f"{providers}/new", PLATFORM, catalogue.ask_new_provider, catalogue.new_provider),
        Page(f"{providers}/change", PLATFORM, catalogue.ask_provider, catalogue.change_provider),
        Page(models, _PLATFORM_READERS, catalogue.list_models),
        Page(f"{models}/new", PLATFORM, catalogue.ask_new_model, catalogue.new_model),
        Page(f"{models}/change", PLATFORM, catalogue.ask_model, catalogue.change_model),
        Page(incidents, _PLATFORM_READERS, operations.list_incidents),
        Page(f"{incidents}/new", PLATFORM, operations.ask_new_incident, operations.new_incident),
        Page(incidents + "/{id}", PLATFORM, operations.ask_incident, operations.change_incident),
        Page("/console/nodes", _PLATFORM_READERS, operations.list_nodes),
        Page("/console/audit", _PLATFORM_READERS, audit.of_platform),
        Page("/console/audit/verify", _PLATFORM_READERS, audit.verify_platform),
    )


def _of_keys() -> tuple[Page, ...]:
    base = "/console/{organization}"
    one, asked = base + "/keys/{id}", base + "/requests/{id}"
    return (
        Page(f"{base}/keys", EVERYBODY, keys.list_keys),
        Page(one, EVERYBODY, keys.show_key),
        Page(f"{one}/rotate", _KEEPERS, keys.ask_rotate, keys.rotate),
        Page(f"{one}/revoke", _KEEPERS, keys.ask_revoke, keys.revoke),
        Page(f"{one}/suspend", MANAGERS, keys.ask_suspend, keys.suspend),
        Page(f"{one}/resume", MANAGERS, keys.ask_resume, keys.resume),
        Page(f"{base}/requests", EVERYBODY, requests.list_requests),
        Page(f"{base}/requests/new", _ASKERS, requests.ask_new, requests.ask),
        Page(f"{asked}/decide", MANAGERS, requests.ask_decide, requests.decide),
        Page(f"{asked}/reveal", _ASKERS, requests.ask_reveal, requests.reveal),
    )


def _of_organization() -> tuple[Page, ...]:
    base = "/console/{organization}"
    team, member = base + "/teams/{id}", base + "/members/{id}"
    return (
        Page(f"{base}/overview", EVERYBODY, overview.overview),
        Page(f"{base}/quota", EVERYBODY, quota.list_quotas),
        Page(f"{base}/quota/change", MANAGERS, quota.ask_change, quota.change),
        Page(f"{base}/usage", EVERYBODY, usage.show_usage),
        Page(f"{base}/usage.csv", EVERYBODY, usage.usage_csv),
        Page(f"{base}/calls", EVERYBODY, calls.list_calls),
        Page(f"{base}/teams", EVERYBODY, people.list_teams),
        Page(f"{base}/teams/new", MANAGERS, people.ask_new_team, people.new_team),
        Page(team, MANAGERS, people.ask_team, people.change_team),
        Page(f"{base}/members", READERS, people.list_members),
        Page(f"{base}/members/new", MANAGERS, people.ask_new_member, people.new_member),
        Page(member, READERS, people.show_member),
        Page(f"{member}/change", MANAGERS, people.ask_change_member, people.change_member),
        Page(f"{member}/suspend", MANAGERS, people.ask_suspend, people.suspend),
        Page(f"{member}/resume", MANAGERS, people.ask_resume, people.resume),
        Page(f"{member}/remove", MANAGERS, people.ask_remove, people.remove),
        Page(f"{base}/audit", READERS, audit.of_organization),
        Page(f"{base}/audit/verify", READERS, audit.verify_organization),
    )
