"""The asyncio client against a real grpc.aio server on a Unix socket."""

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tokendance import AsyncClient, GatewayError, last_request_id, text_message, text_of
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions_pb
from tokendance.gateway.v1 import completions_service_pb2_grpc, errors_pb2, keys_service_pb2_grpc
from tokendance.gateway.v1 import keys_service_pb2 as keys_pb
from tokendance.rpc import STATUS_DETAILS_KEY, status_code, to_status


async def _abort(context: Any, error: GatewayError) -> None:
    await context.abort(
        status_code(error),
        error.message,
        ((STATUS_DETAILS_KEY, to_status(error).SerializeToString()),),
    )


class FakeCompletions(completions_service_pb2_grpc.CompletionsServiceServicer):
    """Echoes; the model's name says how it misbehaves."""

    def __init__(self) -> None:
        self.authorizations: list[Any] = []
        self.left = asyncio.Event()

    async def CreateCompletion(self, request: Any, context: Any) -> completions_pb.CreateCompletionResponse:
        self.authorizations.append(dict(context.invocation_metadata()).get("authorization"))
        await context.send_initial_metadata((("x-request-id", f"req_{request.completion.model}"),))
        if request.completion.model == "slow":
            await asyncio.sleep(30)
        if request.completion.model == "missing":
            error = GatewayError(errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, "No such model.", param="model")
            await _abort(context, error)
        said = text_message("assistant", request.completion.messages[-1].parts[0].text.text)
        completion = pb.Completion(choices=[pb.Choice(message=said)])
        return completions_pb.CreateCompletionResponse(completion=completion)

    async def StreamCompletion(
        self, request: Any, context: Any
    ) -> AsyncIterator[completions_pb.StreamCompletionResponse]:
        await context.send_initial_metadata((("x-request-id", "req_stream"),))
        events = [pb.CompletionEvent(started=pb.Started(id="res_1")), _text("one")]
        yield completions_pb.StreamCompletionResponse(events=events)
        if request.completion.model == "endless":
            try:
                await asyncio.sleep(30)
            finally:
                self.left.set()
        if request.completion.model == "broken":
            await _abort(context, GatewayError(errors_pb2.ERROR_REASON_PROVIDER_ERROR, "It broke."))
        events = [_text("two")]
        if request.completion.model != "cut":
            events.append(pb.CompletionEvent(finished=pb.Finished(usage=pb.Usage(output_tokens=2))))
        yield completions_pb.StreamCompletionResponse(events=events)


class FakeKeys(keys_service_pb2_grpc.KeysServiceServicer):
    async def ListKeys(self, request: Any, context: Any) -> keys_pb.ListKeysResponse:
        if request.page_token:
            return keys_pb.ListKeysResponse(keys=[keys_pb.Key(name="b")])
        return keys_pb.ListKeysResponse(keys=[keys_pb.Key(name="a")], next_page_token="2")


def _text(text: str) -> pb.CompletionEvent:
    return pb.CompletionEvent(text=pb.TextDelta(text=text))


class Rig:
    def __init__(self, target: str, completions: FakeCompletions) -> None:
        self.client = AsyncClient(target, api_key="tdk_made-up")
        self.completions = completions


@pytest.fixture
async def rig(tmp_path: pathlib.Path) -> AsyncIterator[Rig]:
    """A client, and the gateway that it calls."""
    server = grpc.aio.server()
    completions = FakeCompletions()  # type: ignore[abstract]  # the RPCs that no test calls
    completions_service_pb2_grpc.add_CompletionsServiceServicer_to_server(completions, server)
    keys_service_pb2_grpc.add_KeysServiceServicer_to_server(FakeKeys(), server)  # type: ignore[abstract]
    target = f"unix:{tmp_path}/s"
    server.add_insecure_port(target)
    await server.start()
    made = Rig(target, completions)
    async with made.client:
        yield made
    await server.stop(None)


async def test_complete_returns_the_answer_and_its_request_id(rig: Rig) -> None:
    """The answer is the generated message; the key was sent; the request id is known to this task."""
    assert text_of(await rig.client.complete("echo", "Hello")) == "Hello"
    assert last_request_id() == "req_echo"
    assert rig.completions.authorizations == ["Bearer tdk_made-up"]


async def test_failed_call_raises_the_gateway_error(rig: Rig) -> None:
    """Code, param and request id arrive; the id comes from the head where the error names none."""
    with pytest.raises(GatewayError) as caught:
        await rig.client.complete("missing", "Hello")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id == "req_missing"


async def test_deadline_is_an_error_of_the_table(rig: Rig) -> None:
    """A call that takes longer than its timeout raises deadline_exceeded."""
    with pytest.raises(GatewayError, match="deadline_exceeded"):
        await rig.client.complete("slow", "Hello", timeout_s=0.2)


async def test_cancelled_task_stays_cancelled(rig: Rig) -> None:
    """Cancellation is no error of the gateway."""
    call = asyncio.ensure_future(rig.client.complete("slow", "Hello"))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_stream_yields_text_and_keeps_usage(rig: Rig) -> None:
    """Texts come in order; started, usage and request id are there at the end."""
    async with rig.client.stream("echo", "Hello") as stream:
        assert [text async for text in stream.texts()] == ["one", "two"]
        assert await stream.request_id() == "req_stream"
    assert stream.started is not None
    assert stream.finished is not None
    assert stream.finished.usage.output_tokens == 2


@pytest.mark.parametrize(
    ("model", "code", "before"),
    [("broken", "provider_error", ["one"]), ("cut", "stream_interrupted", ["one", "two"])],
)
async def test_stream_that_fails_raises_after_what_was_sent(rig: Rig, model: str, code: str, before: list[str]) -> None:
    """An error in mid-stream is typed, and a cut stream is never a clean end."""
    seen: list[str] = []

    async def read() -> None:
        async for text in rig.client.stream(model, "Hello").texts():
            seen.append(text)  # noqa: PERF401 - a comprehension would lose what came before the error

    with pytest.raises(GatewayError) as caught:
        await read()
    assert seen == before
    assert caught.value.code == code
    assert caught.value.request_id == "req_stream"


async def test_leaving_a_stream_cancels_it(rig: Rig) -> None:
    """The gateway sees at once that nobody reads any more."""
    async with rig.client.stream("endless", "Hello") as stream:
        async for event in stream:
            if event.HasField("text"):
                break
    await asyncio.wait_for(rig.completions.left.wait(), 5)


async def test_lists_go_through_every_page(rig: Rig) -> None:
    """A list asks for the next page until there is none."""
    assert [key.name async for key in rig.client.list_keys()] == ["a", "b"]


async def test_stubs_raise_gateway_errors_too(rig: Rig) -> None:
    """An RPC without a method of its own fails with the same typed error."""
    with pytest.raises(GatewayError, match="unimplemented"):
        await rig.client.stubs.keys.GetKey(keys_pb.GetKeyRequest(name="k"))
