"""The part of the Facade servicer that signs people in: decode, one call of the domain, encode."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import facade_service_pb2 as pb
from tokendance.gateway.v1 import organization_pb2
from tokendance_server.domain.identity.tokens import refused
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.sessions.session import KeptSession, Login, form_key_of
from tokendance_server.domain.sessions.sessions import Sessions
from tokendance_server.services.call import call_of
from tokendance_server.services.origins import origin_of

Context = grpc.aio.ServicerContext[Any, Any]

_LOGIN_LIFETIME = timedelta(minutes=10)


class SessionRpcs:
    """Serves sessions to the console. Sign-in links are taken only from callers before whom no proxy stands."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def CreateLogin(self, request: pb.CreateLoginRequest, context: Context) -> pb.CreateLoginResponse:
        lifetime = request.lifetime.ToTimedelta() if request.HasField("lifetime") else _LOGIN_LIFETIME
        login = request.login
        state, url = await self._sessions.begin(login.next_path, login.redirect_uri, lifetime, fresh=login.fresh)
        return pb.CreateLoginResponse(state=state, authorization_url=url)

    async def TakeLogin(self, request: pb.TakeLoginRequest, context: Context) -> pb.TakeLoginResponse:
        return pb.TakeLoginResponse(login=_login_message(await self._sessions.take(request.state)))

    async def CreateSession(self, request: pb.CreateSessionRequest, context: Context) -> pb.CreateSessionResponse:
        call = call_of(context)
        origin, previous = origin_of(call), request.previous_cookie
        if request.WhichOneof("proof") == "link":
            if call.caller is None or not call.caller.direct:
                raise _through_a_proxy()
            opened = await self._sessions.open_by_link(request.link, previous=previous, origin=origin)
        else:
            answer = request.answer
            opened = await self._sessions.open_by_code(
                _login(answer.login), answer.code, answer.issuer, previous=previous, origin=origin
            )
        kept, person, cookie = opened
        return pb.CreateSessionResponse(session=_session_message(kept, person, cookie), cookie=cookie)

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        found = await self._sessions.get(request.cookie, touch=request.touch)
        session = _session_message(found.kept, found.person, request.cookie)
        return pb.GetSessionResponse(session=session, access_token=found.access_token)

    async def DeleteSession(self, request: pb.DeleteSessionRequest, context: Context) -> pb.DeleteSessionResponse:
        url = await self._sessions.end(request.cookie, origin_of(call_of(context)))
        return pb.DeleteSessionResponse(end_session_url=url)


def _login(message: pb.Login) -> Login:
    return Login(
        nonce=message.nonce,
        code_verifier=message.code_verifier,
        next_path=message.next_path,
        issuer=message.issuer,
        redirect_uri=message.redirect_uri,
        fresh=message.fresh,
        create_time=message.create_time.ToDatetime(UTC),
    )


def _login_message(login: Login) -> pb.Login:
    message = pb.Login(
        nonce=login.nonce,
        code_verifier=login.code_verifier,
        next_path=login.next_path,
        issuer=login.issuer,
        redirect_uri=login.redirect_uri,
        fresh=login.fresh,
    )
    message.create_time.FromDatetime(login.create_time)
    return message


def _session_message(kept: KeptSession, person: Principal, cookie: str) -> pb.Session:
    caller = organization_pb2.Caller(kinds=sorted(person.kinds), name=person.name)
    caller.sign_in_time.FromDatetime(kept.sign_in_time)
    message = pb.Session(name=kept.name, caller=caller, form_key=form_key_of(cookie))
    message.create_time.FromDatetime(kept.create_time)
    message.sign_in_time.FromDatetime(kept.sign_in_time)
    message.idle_expire_time.FromDatetime(kept.idle_expire_time)
    message.expire_time.FromDatetime(kept.expire_time)
    return message


def _through_a_proxy() -> GatewayError:
    return refused(
        "Sign-in links are taken from direct callers only, and this call came through a proxy; set an identity "
        "provider in [server.identity]."
    )
