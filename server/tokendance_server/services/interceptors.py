"""What every call passes through: request id, credential, access, admission, validation, deadline, errors, log.

One chain serves gRPC listeners and the in-process channel alike; each listener has its own, because it says how far
its callers are trusted. Handlers are wrapped once for each method, not once for each call.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from tokendance.credentials import API_KEY_PREFIX
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, caller_pb2, errors_pb2
from tokendance.ids import new_id
from tokendance.rpc import CALLER_KEY, REQUEST_ID_KEY
from tokendance_server.domain.identity.roles import PEOPLE
from tokendance_server.domain.keys.networks import check_network
from tokendance_server.domain.keys.running import is_followed
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import ANYONE, API_KEY, NOBODY, Rule, api_key_not_accepted, check
from tokendance_server.services.admission import Admission, Gate, Priority
from tokendance_server.services.arrival import arrived, forgiving, readable
from tokendance_server.services.call import Call, Trust, address_of
from tokendance_server.services.credentials import KeyVerifier, Streams, bearer_of, principal_without_credential
from tokendance_server.services.deadlines import ClosedOnce, DeadlineScope, ReaderWatch, RpcTask, deadline_exceeded
from tokendance_server.services.doorkeeper import NOBODY_COUNTS, Doorkeeper
from tokendance_server.services.facade_peers import FacadePeers, not_a_facade
from tokendance_server.services.local_context import LocalContext
from tokendance_server.services.records import Recorder
from tokendance_server.services.service_peers import ServicePeers, key_needed_too
from tokendance_server.services.sign_in import NOBODY_SIGNS_IN, SignIn
from tokendance_server.services.statuses import abort, no_such_method
from tokendance_server.services.violations import Validator, invalid
from tokendance_server.services.witness import NOBODY_LOOKS, Witness

_REQUEST_ID = re.compile(r"req_[0-9a-z]{26}")
_COMPLETIONS = "/tokendance.gateway.v1.CompletionsService/"
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
# Health checking and reflection bring their own handlers, which know nothing of keys.
_FOREIGN = ("/grpc.health.v1.", "/grpc.reflection.")
# How long the last words of an ended call may wait for a reader who was not there when it ended.
_LAST_WORDS_S = 1.0

Context = grpc.aio.ServicerContext[Any, Any]
# The types of gRPC describe synchronous behaviours only; ours are coroutines and async generators.
Handler = Any
Unary = Callable[[Any, Context], Awaitable[Any]]
Stream = Callable[[Any, Context], AsyncGenerator[Any, None]]


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """How long calls may take: default and most, and what the server keeps for telling of it. In seconds.

    `write_stall_s` is how long the reader of an answer may take nothing of it, `receive_s` how long a message may be on
    its way.
    """

    unary_s: float
    stream_s: float
    admin_s: float
    margin_s: float
    write_stall_s: float = 60.0
    receive_s: float = 60.0

    def longest(self, rule: Rule) -> float:
        """Return the most that a call of this RPC may take."""
        if rule.streams:
            return self.stream_s
        return self.unary_s if rule.method.startswith(_COMPLETIONS) else self.admin_s


class Chain(grpc.aio.ServerInterceptor):
    """Every method of one listener, wrapped. `trust` says how far the callers of that listener are believed.

    Where `peers` are given, only they are: everybody else is a stranger. `services` are known by their certificates.
    What is not in `rules` is not there.
    """

    def __init__(
        self,
        trust: Trust,
        *,
        rules: Mapping[str, Rule],
        keys: KeyVerifier,
        admission: Admission,
        deadlines: DeadlinePolicy,
        recorder: Recorder,
        validator: Validator,
        sign_in: SignIn = NOBODY_SIGNS_IN,
        peers: FacadePeers | None = None,
        services: ServicePeers | None = None,
        streams: Streams | None = None,
        metadata_bytes: int = 32 * 1024,
        witness: Witness = NOBODY_LOOKS,
        doorkeeper: Doorkeeper = NOBODY_COUNTS,
    ) -> None:
        self._trust = trust
        self._peers = peers
        self._services = services
        self._streams = streams
        self._rules = rules
        self._keys = keys
        self._admission = admission
        self._deadlines = deadlines
        self._recorder = recorder
        self._validator = validator
        self._sign_in = sign_in
        self._metadata_bytes = metadata_bytes
        self._witness = witness
        self._doorkeeper = doorkeeper
        self._served: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the wrapped handler of a method; a method that is not there answers a typed error."""
        method = handler_call_details.method
        served = self._served.get(method)
        if served is not None:
            return served
        handler = await continuation(handler_call_details)
        if handler is not None and method.startswith(_FOREIGN):
            known_only = method == _HEALTH_CHECK and self._peers is not None
            served = self._served[method] = self._serve_foreign(handler, known_only=known_only)
            return served
        if handler is None or method not in self._rules:
            # For gRPC its requests are a stream: their messages are not read.
            return grpc.stream_unary_rpc_method_handler(self._unknown_method)
        served = self._served[method] = self._serve(method, handler)
        return served

    def _serve_foreign(self, handler: Handler, *, known_only: bool) -> Handler:
        """Wait for a foreign handler's message in time; `known_only`: who asks for a service of ours must be known."""
        if handler.request_streaming:
            return handler

        async def message(context: Context) -> Any:
            try:
                request = readable(await arrived(context, self._deadlines.receive_s))
                if known_only and request.service and self._trust_in(context) is Trust.STRANGER:
                    raise not_a_facade()
            except GatewayError as error:
                return await abort(context, error)
            return request

        async def unary(_: Any, context: Context) -> Any:
            return await handler.unary_unary(await message(context), context)

        async def stream(_: Any, context: Context) -> Any:
            return await handler.unary_stream(await message(context), context)

        coding = {
            "request_deserializer": forgiving(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, **coding)
        return grpc.stream_unary_rpc_method_handler(unary, **coding)

    def wrap(self, method: str, handler: Handler) -> Handler:
        """Wrap one handler of ours for the channel in this process, over which messages come whole."""
        rule = self._rules[method]
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._wrap_stream(rule, handler.unary_stream))
        return grpc.unary_unary_rpc_method_handler(self._wrap_unary(rule, handler.unary_unary))

    def _serve(self, method: str, handler: Handler) -> Handler:
        """Wrap one handler of ours for a listener.

        For gRPC its requests are streams, of which the first message is read: only thus is it known who calls before
        the message is taken in, and for how long it is waited for. On the wire both are the same.
        """
        rule = self._rules[method]
        coding = {
            "request_deserializer": forgiving(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._wrap_stream(rule, handler.unary_stream), **coding)
        return grpc.stream_unary_rpc_method_handler(self._wrap_unary(rule, handler.unary_unary), **coding)

    def _gate(self, rule: Rule) -> Gate:
        """Return where calls of an RPC come in. Operators come in last of all to be refused, whatever they call."""
        if self._trust is Trust.OPERATOR or rule.allow.isdisjoint({API_KEY, ANYONE}):
            return self._admission.gate(Priority.CONTROL)
        model_call = rule.method.startswith(_COMPLETIONS)
        return self._admission.gate(Priority.MODEL_CALL if model_call else Priority.READ)

    def _wrap_unary(self, rule: Rule, behaviour: Unary) -> Unary:
        gate = self._gate(rule)

        async def unary(request: Any, context: Context) -> Any:
            call = self._begin(rule, context)
            try:
                scope = call.scope = gate.enter(call.deadline)
                try:
                    with scope:
                        request = await self._let_in(rule, call, request, context, scope)
                        answer = await behaviour(request, call)
                finally:
                    gate.leave(scope)
                self._recorder.answered(call)
            except BaseException as exc:  # noqa: BLE001 - cancellation too is recorded, and raised again
                error = self._failed(call, exc)
                self._witness.refused(call, call.asked, error)
            else:
                self._recorder.ended(call, None)
                if not isinstance(context, LocalContext):
                    RpcTask().cut_after(self._deadlines.write_stall_s)
                return answer
            return await abort(context, error)

        return unary

    def _wrap_stream(self, rule: Rule, behaviour: Stream) -> Stream:
        gate = self._gate(rule)

        async def stream(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            call = self._begin(rule, context)
            scope = None
            leave = _nothing
            try:
                scope = call.scope = gate.enter(call.deadline)
                try:
                    with scope:
                        request = await self._let_in(rule, call, request, context, scope)
                        # At once: a change that is told in between would be missed.
                        leave = self._follow(call, scope)
                        await context.send_initial_metadata(((REQUEST_ID_KEY, call.request_id),))
                    answers = behaviour(request, call)
                    closing = ClosedOnce(answers)
                    watch = self._watch_reader(scope, closing, context)
                    try:
                        first = True
                        while True:
                            with scope:
                                try:
                                    answer = await anext(answers)
                                except StopAsyncIteration:
                                    break
                            if first:
                                first = False
                                self._recorder.answered(call)
                            yield answer
                    finally:
                        if watch is not None:
                            watch.close()
                        await closing.finish()
                finally:
                    leave()
                    gate.leave(scope)
            except BaseException as exc:  # noqa: BLE001 - cancellation too is recorded, and raised again
                error = self._failed(call, exc, scope)
                self._witness.refused(call, call.asked, error)
            else:
                self._recorder.ended(call, None)
                return
            await abort(context, error)

        return stream

    def _watch_reader(self, scope: DeadlineScope, closing: ClosedOnce, context: Context) -> ReaderWatch | None:
        """See to it that a reader who stalls holds no upstream and no place for longer than the call may last."""
        if isinstance(context, LocalContext):
            # Its reader is a facade, which gives up callers of its own accord; the task that reads is not ours.
            scope.when_idle = closing.begin
            return None
        rpc = RpcTask()

        def end() -> None:
            closing.begin()
            rpc.cut_after(_LAST_WORDS_S)

        scope.when_idle = end
        return ReaderWatch(scope, self._deadlines.write_stall_s)

    def _follow(self, call: Call, scope: DeadlineScope) -> Callable[[], None]:
        """See to it that a stream ends with its key or its member; return what ends the watch."""
        caller = call.identity
        if self._streams is None or not is_followed(caller):
            return _nothing
        self._streams.enter(caller, scope.end)
        return functools.partial(self._streams.leave, caller, scope.end)

    async def _unknown_method(self, requests: Any, context: Context) -> Any:
        await abort(context, no_such_method())

    def _begin(self, rule: Rule, context: Context) -> Call:
        call = Call(context, rule.method, self._trust_in(context), time.perf_counter())
        call.deadline = self._deadline_of(rule, call)
        if call.trust is Trust.FACADE:
            self._believe(call)
        if call.caller is None:
            # Now, not when somebody asks: once a call has ended, gRPC's own context crashes the process over this.
            call.address = address_of(context.peer())
        if not call.request_id:
            call.request_id = new_id("req")
        context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
        self._recorder.began(call)
        return call

    def _trust_in(self, context: Context) -> Trust:
        if self._peers is None or self._peers.admit(context.auth_context()):
            return self._trust
        return Trust.STRANGER

    def _deadline_of(self, rule: Rule, call: Call) -> float:
        longest = self._deadlines.longest(rule)
        remaining = call.time_remaining()
        if remaining is not None:
            # Of a short time the margin leaves most, so that quick answers come.
            longest = min(longest, remaining - min(self._deadlines.margin_s, remaining / 4))
        return asyncio.get_running_loop().time() + longest

    def _believe(self, call: Call) -> None:
        """Take over what the facade asserts about its own caller."""
        for key, value in call.invocation_metadata() or ():
            if key == CALLER_KEY and isinstance(value, bytes):
                try:
                    assertion = caller_pb2.CallerAssertion.FromString(value)
                except DecodeError:
                    return
                call.caller = assertion
                call.address = assertion.address
                call.surface = assertion.surface
                if _REQUEST_ID.fullmatch(assertion.request_id):
                    call.request_id = assertion.request_id
                return

    async def _let_in(self, rule: Rule, call: Call, request: Any, context: Context, scope: DeadlineScope) -> Any:
        """Return the message of a call that may go on; over a listener it is read here, once it is known who calls."""
        if call.trust is Trust.STRANGER:
            raise not_a_facade()
        if not isinstance(context, LocalContext):
            self._check_metadata(call)
        try:
            call.principal = await self._authenticate(rule, call)
            if not isinstance(context, LocalContext):
                if call.principal is NOBODY:
                    check(rule, NOBODY)
                request = await arrived(context, self._deadlines.receive_s)
            call.asked = request
            # The facade's own calls may carry its caller's key: it is recognised by the channel, not by a credential.
            if not _is_facades_own(rule, call):
                check(rule, call.principal)
                check_network(call.principal, call.address)
        except GatewayError as error:
            if call.principal is None or call.principal is NOBODY:
                self._doorkeeper.refused(call, error)
            raise
        request = readable(request)
        # The facade's decoders hold the same bounds; validating its model calls again would cost a quarter of the path.
        if call.trust is not Trust.FACADE or not rule.method.startswith(_COMPLETIONS):
            self._validate(request)
        if scope.over:
            raise deadline_exceeded()
        return request

    def _check_metadata(self, call: Call) -> None:
        """Refuse too much metadata here too: gRPC counts anew with each frame that a sender cuts its headers into."""
        size = 0
        for key, value in call.invocation_metadata() or ():
            size += len(key) + len(value) + 32  # as HPACK counts (RFC 7541, 4.1)
        if size > self._metadata_bytes:
            raise GatewayError(
                errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
                f"The metadata is larger than {self._metadata_bytes} bytes; send less.",
                metadata={"max_bytes": str(self._metadata_bytes)},
                origin="caller",
            )

    async def _authenticate(self, rule: Rule, call: Call) -> Principal:
        secret = bearer_of(call.invocation_metadata() or ())
        if secret is None:
            return self._service(rule, call) or principal_without_credential(call, rule.allow)
        if not secret.startswith(API_KEY_PREFIX):
            self._doorkeeper.admit(call)
            person = await self._sign_in.identify(rule, call, secret)
            self._witness.signed_in(call, secret, person)
            return person
        if not rule.admits_api_keys and not _is_facades_own(rule, call):
            raise api_key_not_accepted()
        principal = self._keys.verify_cached(secret)
        if principal is None:
            # A key that is at hand costs nothing, so it works also where somebody else at its address guesses.
            self._doorkeeper.admit(call)
            principal = await self._keys.verify(secret)
        return principal

    def _service(self, rule: Rule, call: Call) -> Principal | None:
        """Return the service that a client certificate names, where this listener knows services."""
        service = None if self._services is None else self._services.find(call.auth_context())
        if service is not None and API_KEY in rule.allow and not rule.allow & PEOPLE and ANYONE not in rule.allow:
            raise key_needed_too()
        return service

    def _validate(self, request: Message) -> None:
        violations = self._validator.collect_violations(request)
        if violations:
            raise invalid(violations[0])

    def _failed(self, call: Call, exc: BaseException, scope: DeadlineScope | None = None) -> GatewayError:
        """Record the failure and return it as the caller will see it; what is no Exception goes on as it is."""
        if isinstance(exc, GeneratorExit) or (isinstance(exc, asyncio.CancelledError) and _being_cancelled()):
            ended_by = None if scope is None else scope.error
            self._recorder.ended(call, errors_pb2.ERROR_REASON_CANCELLED if ended_by is None else ended_by.reason)
            raise exc
        if not isinstance(exc, (Exception, asyncio.CancelledError)):
            raise exc
        if isinstance(exc, GatewayError):
            error = exc
        elif isinstance(exc, NotImplementedError):  # what the generated servicers raise for an RPC not overridden
            error = GatewayError(
                errors_pb2.ERROR_REASON_UNIMPLEMENTED,
                "This call is not served by this version of the gateway.",
            )
        else:
            self._recorder.crashed(call, exc)
            error = GatewayError(
                errors_pb2.ERROR_REASON_INTERNAL_ERROR,
                "Something went wrong inside the gateway; give the request id to support.",
            )
        error.request_id = call.request_id
        self._recorder.ended(call, error.reason)
        return error


def _nothing() -> None:
    """Watch nothing, and so end nothing."""


def _is_facades_own(rule: Rule, call: Call) -> bool:
    return call.trust is Trust.FACADE and access_pb2.CALLER_KIND_FACADE in rule.allow


def _being_cancelled() -> bool:
    """Tell a call that somebody ended from one whose servicer met the cancellation of something else."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
