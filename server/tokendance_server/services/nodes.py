"""The Nodes servicer: decode, one call of the domain, encode."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from tokendance.gateway.v1 import nodes_service_pb2 as pb
from tokendance.gateway.v1 import nodes_service_pb2_grpc as pb_grpc
from tokendance_server.domain.nodes.roster import NodeState, Report, Role, Roster
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.people.rules import nothing_here
from tokendance_server.services.call import call_of
from tokendance_server.services.key_messages import timestamp

Context = grpc.aio.ServicerContext[Any, Any]

_PAGE_SIZE = 100
_THIS = "nodes/-"
_ROLES = {Role.SERVER: pb.NODE_ROLE_SERVER, Role.FACADE: pb.NODE_ROLE_FACADE}
_STATES = {state: pb.NodeState.Value(f"NODE_STATE_{state.name}") for state in NodeState}


class NodesService(pb_grpc.NodesServiceServicer):
    """Tells of the nodes. `newest` returns the number of the newest change of all."""

    def __init__(self, roster: Roster, newest: Callable[[], Awaitable[int]], tokens: PageTokens) -> None:
        self._roster = roster
        self._newest = newest
        self._tokens = tokens

    async def ListNodes(self, request: pb.ListNodesRequest, context: Context) -> pb.ListNodesResponse:
        binding = json.dumps(["nodes", call_of(context).identity.name, request.state])
        found = [one for one in await self._roster.nodes() if request.state in (0, _STATES[one.state])]
        if request.page_token:
            lost, name = json.loads(self._tokens.open(request.page_token, binding))
            found = [one for one in found if (one.state is NodeState.LOST, one.run_id) > (lost, name)]
        size = request.page_size or _PAGE_SIZE
        token = ""
        if len(found) > size:
            last = found[size - 1]
            token = self._tokens.seal(json.dumps([last.state is NodeState.LOST, last.run_id]), binding)
        return pb.ListNodesResponse(
            nodes=map(_message, found[:size]), next_page_token=token, config_version=await self._newest()
        )

    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.GetNodeResponse:
        if request.name == _THIS:
            return pb.GetNodeResponse(node=_message(self._roster.own))
        found = next((one for one in await self._roster.nodes() if one.name == request.name), None)
        if found is None:
            raise nothing_here("node")
        return pb.GetNodeResponse(node=_message(found))


def _message(one: Report) -> pb.Node:
    journal = one.journal
    return pb.Node(
        name=one.name,
        hostname=one.hostname,
        roles=[_ROLES[role] for role in one.roles],
        state=_STATES[one.state],
        reason=one.reason,
        version=one.version,
        start_time=timestamp(one.start_time),
        report_time=timestamp(one.report_time),
        config_version=one.config_version,
        catalog_version=one.catalog_version,
        config_age=_duration(one.config_age_s),
        loop_lag=_duration(one.loop_lag_s),
        running_requests=one.running_requests,
        running_streams=one.running_streams,
        resident_bytes=one.resident_bytes,
        open_files=one.open_files,
        journal=pb.JournalStatus(
            pending_entries=journal.pending_entries,
            open_entries=journal.open_entries,
            size_bytes=journal.size_bytes,
            max_bytes=journal.max_bytes,
            oldest_pending_age=_duration(journal.oldest_pending_s),
        ),
        quota_store=one.quota_store,
        quota_store_latency=_duration(one.quota_store_latency_s),
    )


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
