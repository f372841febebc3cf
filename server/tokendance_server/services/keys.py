"""The Keys servicer: decode, one call of the domain, encode."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import keys_service_pb2_grpc as pb_grpc
from tokendance_server.domain.keys.key import Key
from tokendance_server.domain.keys.keys import KeyQuery, Keys
from tokendance_server.domain.keys.life import KeyLife
from tokendance_server.domain.keys.requests import KeyRequests
from tokendance_server.domain.keys.rules import DAY_S
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.services.call import call_of
from tokendance_server.services.key_messages import (
    changed_key,
    new_key,
    state_filter,
    timestamp,
    to_proto,
    whole_seconds,
)
from tokendance_server.services.key_requests import IssuanceService
from tokendance_server.services.origins import origin_of

Context = grpc.aio.ServicerContext[Any, Any]


class KeysService(IssuanceService, pb_grpc.KeysServiceServicer):
    """Serves the life of keys and the checking of secrets; requests for keys are a part of their own."""

    def __init__(self, keys: Keys, life: KeyLife, verifier: Verifier, requests: KeyRequests) -> None:
        super().__init__(requests)
        self._keys = keys
        self._life = life
        self._verifier = verifier

    async def CreateKey(self, request: pb.CreateKeyRequest, context: Context) -> pb.CreateKeyResponse:
        draft = new_key(request.key)
        call = call_of(context)
        key, secret = await self._keys.create(
            call.identity, request.parent, draft, request.request_id, origin=origin_of(call)
        )
        return pb.CreateKeyResponse(key=self._encode(key), secret=secret)

    async def GetKey(self, request: pb.GetKeyRequest, context: Context) -> pb.GetKeyResponse:
        key = await self._keys.get(call_of(context).identity, request.name)
        return pb.GetKeyResponse(key=self._encode(key))

    async def ListKeys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:
        query = KeyQuery(
            parent=request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
            team=request.team,
            owner=request.owner,
            state=state_filter(request.state),
            rotation_overdue=request.rotation_overdue,
        )
        keys, next_page_token = await self._keys.list(call_of(context).identity, query)
        return pb.ListKeysResponse(keys=[self._encode(key) for key in keys], next_page_token=next_page_token)

    async def UpdateKey(self, request: pb.UpdateKeyRequest, context: Context) -> pb.UpdateKeyResponse:
        draft, fields = changed_key(request.key, request.update_mask.paths)
        call = call_of(context)
        key = await self._life.update(
            call.identity, request.key.name, draft, fields, request.key.etag, origin=origin_of(call)
        )
        return pb.UpdateKeyResponse(key=self._encode(key))

    async def RotateKey(self, request: pb.RotateKeyRequest, context: Context) -> pb.RotateKeyResponse:
        overlap_s = whole_seconds(request.overlap, "overlap") if request.HasField("overlap") else DAY_S
        call = call_of(context)
        rotated = await self._life.rotate(
            call.identity,
            request.name,
            overlap_s=overlap_s,
            etag=request.etag,
            request_id=request.request_id,
            origin=origin_of(call),
        )
        return pb.RotateKeyResponse(
            key=self._encode(rotated.key),
            secret=rotated.secret,
            old_secret_expire_time=timestamp(rotated.old_secret_expire_time),
        )

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: Context) -> pb.RevokeKeyResponse:
        call = call_of(context)
        key = await self._life.revoke(call.identity, request.name, reason=request.reason, origin=origin_of(call))
        return pb.RevokeKeyResponse(key=self._encode(key))

    async def SuspendKey(self, request: pb.SuspendKeyRequest, context: Context) -> pb.SuspendKeyResponse:
        call = call_of(context)
        key = await self._life.suspend(call.identity, request.name, reason=request.reason, origin=origin_of(call))
        return pb.SuspendKeyResponse(key=self._encode(key))

    async def ResumeKey(self, request: pb.ResumeKeyRequest, context: Context) -> pb.ResumeKeyResponse:
        call = call_of(context)
        key = await self._life.resume(call.identity, request.name, origin=origin_of(call))
        return pb.ResumeKeyResponse(key=self._encode(key))

    async def CheckKey(self, request: pb.CheckKeyRequest, context: Context) -> pb.CheckKeyResponse:
        key, error = await self._verifier.check(request.secret)
        return pb.CheckKeyResponse(
            key=None if key is None else self._encode(key),
            valid=error is None,
            code="" if error is None else error.code,
        )

    def _encode(self, key: Key) -> pb.Key:
        return to_proto(key, self._keys.now())
