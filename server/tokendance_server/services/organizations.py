"""The Organizations servicer: decode, one call of the domain, encode."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tokendance.gateway.v1 import organization_pb2, organizations_service_pb2_grpc
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance_server.domain.audit.events import Origin
from tokendance_server.domain.organizations import OrganizationState
from tokendance_server.domain.people.desk import People
from tokendance_server.domain.people.members import MemberQuery
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import member_id
from tokendance_server.services import organization_messages as messages
from tokendance_server.services.call import call_of
from tokendance_server.services.origins import origin_of

Context = grpc.aio.ServicerContext[Any, Any]


class OrganizationsService(organizations_service_pb2_grpc.OrganizationsServiceServicer):
    """Serves organizations, teams, members, policies and the preferences of callers."""

    def __init__(self, people: People) -> None:
        self._people = people

    async def GetCaller(self, request: pb.GetCallerRequest, context: Context) -> pb.GetCallerResponse:
        caller = call_of(context).identity
        told = organization_pb2.Caller(kinds=sorted(caller.kinds), name=caller.name)
        if not caller.key_id:
            told.preferences.CopyFrom(messages.preferences_message(await self._people.preferences.get(caller)))
        if caller.sign_in_time is not None:
            told.sign_in_time.FromDatetime(caller.sign_in_time)
        if caller.expire_time is not None:
            told.expire_time.FromDatetime(caller.expire_time)
        if member_id(caller):
            await self._tell_member(caller, told)
        return pb.GetCallerResponse(caller=told)

    async def UpdatePreferences(
        self, request: pb.UpdatePreferencesRequest, context: Context
    ) -> pb.UpdatePreferencesResponse:
        paths, given = request.update_mask.paths, request.preferences
        fields = messages.masked(paths, given, "preferences", messages.PREFERENCE_FIELDS)
        wanted = messages.preference_values(given)
        kept = await self._people.preferences.update(call_of(context).identity, wanted, fields)
        return pb.UpdatePreferencesResponse(preferences=messages.preferences_message(kept))

    async def CreateOrganization(
        self, request: pb.CreateOrganizationRequest, context: Context
    ) -> pb.CreateOrganizationResponse:
        messages.require_new(request.organization, "organization", messages.ORGANIZATION_FIELDS)
        draft = messages.organization_draft(request.organization)
        made = await self._people.organizations.create(
            call_of(context).identity, draft, request.request_id, origin=_origin(context)
        )
        return pb.CreateOrganizationResponse(organization=messages.organization_message(made))

    async def GetOrganization(self, request: pb.GetOrganizationRequest, context: Context) -> pb.GetOrganizationResponse:
        found = await self._people.organizations.get(call_of(context).identity, request.name)
        return pb.GetOrganizationResponse(organization=messages.organization_message(found))

    async def ListOrganizations(
        self, request: pb.ListOrganizationsRequest, context: Context
    ) -> pb.ListOrganizationsResponse:
        found, token = await self._people.organizations.page(
            call_of(context).identity,
            page_size=request.page_size,
            page_token=request.page_token,
            query=request.query,
            state=messages.organization_state(request.state),
        )
        listed = [messages.organization_message(one) for one in found]
        return pb.ListOrganizationsResponse(organizations=listed, next_page_token=token)

    async def UpdateOrganization(
        self, request: pb.UpdateOrganizationRequest, context: Context
    ) -> pb.UpdateOrganizationResponse:
        given = request.organization
        fields = messages.masked(request.update_mask.paths, given, "an organization", messages.ORGANIZATION_FIELDS)
        draft, caller = messages.organization_draft(given), call_of(context).identity
        after = await self._people.organizations.update(
            caller, given.name, draft, fields, given.etag, origin=_origin(context)
        )
        return pb.UpdateOrganizationResponse(organization=messages.organization_message(after))

    async def SuspendOrganization(
        self, request: pb.SuspendOrganizationRequest, context: Context
    ) -> pb.SuspendOrganizationResponse:
        caller = call_of(context).identity
        after = await self._people.organizations.set_state(
            caller, request.name, OrganizationState.SUSPENDED, reason=request.reason, origin=_origin(context)
        )
        return pb.SuspendOrganizationResponse(organization=messages.organization_message(after))

    async def ResumeOrganization(
        self, request: pb.ResumeOrganizationRequest, context: Context
    ) -> pb.ResumeOrganizationResponse:
        caller = call_of(context).identity
        after = await self._people.organizations.set_state(
            caller, request.name, OrganizationState.ACTIVE, origin=_origin(context)
        )
        return pb.ResumeOrganizationResponse(organization=messages.organization_message(after))

    async def CreateTeam(self, request: pb.CreateTeamRequest, context: Context) -> pb.CreateTeamResponse:
        messages.require_new(request.team, "team", messages.TEAM_FIELDS)
        draft, caller = messages.team_draft(request.team), call_of(context).identity
        made = await self._people.teams.create(
            caller, request.parent, draft, request.request_id, origin=_origin(context)
        )
        return pb.CreateTeamResponse(team=messages.team_message(made))

    async def GetTeam(self, request: pb.GetTeamRequest, context: Context) -> pb.GetTeamResponse:
        found = await self._people.teams.get(call_of(context).identity, request.name)
        return pb.GetTeamResponse(team=messages.team_message(found))

    async def ListTeams(self, request: pb.ListTeamsRequest, context: Context) -> pb.ListTeamsResponse:
        found, token = await self._people.teams.page(
            call_of(context).identity,
            request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
            query=request.query,
        )
        return pb.ListTeamsResponse(teams=[messages.team_message(one) for one in found], next_page_token=token)

    async def UpdateTeam(self, request: pb.UpdateTeamRequest, context: Context) -> pb.UpdateTeamResponse:
        given = request.team
        fields = messages.masked(request.update_mask.paths, given, "a team", messages.TEAM_FIELDS)
        draft, caller = messages.team_draft(given), call_of(context).identity
        after = await self._people.teams.update(caller, given.name, draft, fields, given.etag, origin=_origin(context))
        return pb.UpdateTeamResponse(team=messages.team_message(after))

    async def DeleteTeam(self, request: pb.DeleteTeamRequest, context: Context) -> pb.DeleteTeamResponse:
        await self._people.teams.delete(call_of(context).identity, request.name, request.etag, origin=_origin(context))
        return pb.DeleteTeamResponse()

    async def CreateMember(self, request: pb.CreateMemberRequest, context: Context) -> pb.CreateMemberResponse:
        messages.require_new(request.member, "member", messages.MEMBER_FIELDS)
        draft, caller = messages.member_draft(request.member), call_of(context).identity
        made = await self._people.members.create(
            caller, request.parent, draft, request.request_id, origin=_origin(context)
        )
        return pb.CreateMemberResponse(member=messages.member_message(made))

    async def GetMember(self, request: pb.GetMemberRequest, context: Context) -> pb.GetMemberResponse:
        found = await self._people.members.get(call_of(context).identity, request.name)
        return pb.GetMemberResponse(member=messages.member_message(found))

    async def ListMembers(self, request: pb.ListMembersRequest, context: Context) -> pb.ListMembersResponse:
        query = MemberQuery(
            parent=request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
            team=request.team,
            role=messages.member_role(request.role),
            state=messages.member_state(request.state),
            query=request.query,
        )
        found, token = await self._people.members.page(call_of(context).identity, query)
        return pb.ListMembersResponse(members=[messages.member_message(one) for one in found], next_page_token=token)

    async def UpdateMember(self, request: pb.UpdateMemberRequest, context: Context) -> pb.UpdateMemberResponse:
        given = request.member
        fields = messages.masked(request.update_mask.paths, given, "a member", messages.MEMBER_FIELDS)
        draft, caller = messages.member_draft(given), call_of(context).identity
        after = await self._people.members.update(
            caller, given.name, draft, fields, given.etag, origin=_origin(context)
        )
        return pb.UpdateMemberResponse(member=messages.member_message(after))

    async def SuspendMember(self, request: pb.SuspendMemberRequest, context: Context) -> pb.SuspendMemberResponse:
        after, keys = await self._people.members.suspend(
            call_of(context).identity,
            request.name,
            fate=messages.key_fate(request.keys, "keys"),
            keys_owner=request.keys_owner,
            reason=request.reason,
            origin=_origin(context),
        )
        return pb.SuspendMemberResponse(member=messages.member_message(after), changed_keys=keys)

    async def ResumeMember(self, request: pb.ResumeMemberRequest, context: Context) -> pb.ResumeMemberResponse:
        after = await self._people.members.resume(call_of(context).identity, request.name, origin=_origin(context))
        return pb.ResumeMemberResponse(member=messages.member_message(after))

    async def DeleteMember(self, request: pb.DeleteMemberRequest, context: Context) -> pb.DeleteMemberResponse:
        keys = await self._people.members.delete(
            call_of(context).identity,
            request.name,
            fate=messages.key_fate(request.keys, "keys"),
            keys_owner=request.keys_owner,
            reason=request.reason,
            origin=_origin(context),
            etag=request.etag,
        )
        return pb.DeleteMemberResponse(changed_keys=keys)

    async def EraseMember(self, request: pb.EraseMemberRequest, context: Context) -> pb.EraseMemberResponse:
        erased = await self._people.erasure.member(
            call_of(context).identity,
            request.name,
            reason=request.reason,
            validate_only=request.validate_only,
            origin=_origin(context),
        )
        return pb.EraseMemberResponse(summary=messages.erasure_message(erased))

    async def EraseOrganization(
        self, request: pb.EraseOrganizationRequest, context: Context
    ) -> pb.EraseOrganizationResponse:
        erased = await self._people.erasure.organization(
            call_of(context).identity,
            request.name,
            etag=request.etag,
            reason=request.reason,
            validate_only=request.validate_only,
            origin=_origin(context),
        )
        return pb.EraseOrganizationResponse(summary=messages.erasure_message(erased))

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Context) -> pb.GetPolicyResponse:
        found = await self._people.policies.get(call_of(context).identity, request.name)
        return pb.GetPolicyResponse(policy=messages.policy_message(found))

    async def UpdatePolicy(self, request: pb.UpdatePolicyRequest, context: Context) -> pb.UpdatePolicyResponse:
        given = request.policy
        fields = messages.policy_mask(request.update_mask.paths, given)
        after = await self._people.policies.update(
            call_of(context).identity,
            given.name,
            messages.policy_values(given),
            fields,
            owner=given.orphaned_keys_owner,
            etag=given.etag,
            origin=_origin(context),
        )
        return pb.UpdatePolicyResponse(policy=messages.policy_message(after))

    async def _tell_member(self, caller: Principal, told: organization_pb2.Caller) -> None:
        own = messages.member_message(await self._people.members.get(caller, caller.name))
        told.display_name, told.email = own.display_name, own.email
        told.memberships.append(own)


def _origin(context: Context) -> Origin:
    return origin_of(call_of(context))
