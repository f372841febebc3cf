"""The facade as its callers see it, with real sockets on both sides."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from tests.facade.rig import KEY, Rig, chat, hello_events, open_rig, sse

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.listener import AddressError

CHAT = "/v1/chat/completions"


async def test_a_chat_completion_is_answered(rig: Rig) -> None:
    """The body is OpenAI's, the request id is in both headers, and nothing names the software."""
    answer = await rig.post(CHAT, chat())
    assert answer.status == 200
    body = await answer.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "Hello."
    assert answer.headers["x-request-id"] == answer.headers["request-id"] == rig.upstream.callers[0].request_id
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["Server"] == "TokenDance Gateway"
    assert rig.upstream.credentials == [f"Bearer {KEY}"]


async def test_the_caller_is_asserted_to_the_server(rig: Rig) -> None:
    """Surface, address, client and route travel with the call."""
    await rig.post(CHAT, chat(), user_agent="OpenAI/Python 3.54.0")
    caller = rig.upstream.callers[0]
    assert (caller.surface, caller.address, caller.client_kind, caller.client_version, caller.http_route) == (
        errors_pb2.SURFACE_CHAT,
        "127.0.0.1",
        "openai-python",
        "3.54.0",
        "POST /v1/chat/completions",
    )


async def test_a_stream_has_the_order_of_chunks(rig: Rig) -> None:
    """Role, deltas, finish reason, usage, end; earlier chunks say that usage is not known yet."""
    answer = await rig.post(CHAT, chat(stream=True, stream_options={"include_usage": True}))
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    *payloads, done = sse(await answer.text())
    chunks = [json.loads(payload) for payload in payloads]
    assert done == "[DONE]"
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 4
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [chunk["choices"][0]["delta"] for chunk in chunks[1:4]] == [{"content": "Hel"}, {"content": "lo."}, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 5


async def test_without_include_usage_no_chunk_has_the_key(rig: Rig) -> None:
    """No usage chunk, and no `usage` in the others."""
    answer = await rig.post(CHAT, chat(stream=True))
    assert "usage" not in await answer.text()


async def test_an_error_before_the_first_byte_is_a_status(rig: Rig) -> None:
    """Nothing was sent, so the answer is an ordinary error, with the server's param and request id."""
    rig.upstream.failure = GatewayError(errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, "No such model.", param="model")
    for stream in (False, True):
        answer = await rig.post(CHAT, chat(stream=stream))
        assert answer.status == 404
        error = (await answer.json())["error"]
        assert (error["code"], error["param"], error["message"]) == ("model_not_found", "model", "No such model.")
        assert error["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["x-tokendance-error-code"] == "model_not_found"


async def test_an_error_after_the_first_byte_is_the_last_event(rig: Rig) -> None:
    """Exactly one event with nothing but `error`, no `[DONE]`, and the connection ends."""
    failure = GatewayError(errors_pb2.ERROR_REASON_STREAM_INTERRUPTED, "The provider cut the stream.")
    rig.upstream.steps = [*hello_events()[:2], failure]
    answer = await rig.post(CHAT, chat(stream=True))
    payloads = sse(await answer.text())
    last = json.loads(payloads[-1])
    assert list(last) == ["error"]
    assert last["error"]["code"] == "stream_interrupted"
    assert "[DONE]" not in payloads


async def test_a_stream_that_just_ends_is_an_error(rig: Rig) -> None:
    """Without its last event an answer is incomplete, whatever the status says."""
    rig.upstream.steps = hello_events()[:3]
    answer = await rig.post(CHAT, chat(stream=True))
    assert json.loads(sse(await answer.text())[-1])["error"]["code"] == "stream_interrupted"
    rig.upstream.steps = []
    answer = await rig.post(CHAT, chat(stream=True))
    assert answer.status == 502


async def test_silence_is_filled_with_comments() -> None:
    """The head goes out after the first wait, then comments; the answer still comes whole and in order."""
    async with open_rig(stream_headers_after_s=0.05, keepalive_s=0.05) as rig:
        rig.upstream.steps = [hello_events()[0], 0.3, *hello_events()[1:2], 0.2, *hello_events()[2:]]
        answer = await rig.post(CHAT, chat(stream=True))
        first = await answer.content.readuntil(b"\n\n")
        assert first == b": keep-alive\n\n"
        text = (await answer.read()).decode()
        assert text.count(": keep-alive\n\n") >= 3
        assert sse(text)[-1] == "[DONE]"


async def test_an_error_after_the_head_went_out_is_an_event() -> None:
    """Once headers are out for a silent stream, even its first news is an event."""
    async with open_rig(stream_headers_after_s=0.05) as rig:
        rig.upstream.steps = [0.2, GatewayError(errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT, "Too slow.")]
        answer = await rig.post(CHAT, chat(stream=True))
        assert answer.status == 200
        assert json.loads(sse(await answer.text())[0])["error"]["code"] == "provider_timeout"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_cancels_the_call(rig: Rig, stream: bool) -> None:
    """Nobody pays for an answer that nobody reads."""
    rig.upstream.delay_s = 0 if stream else 30.0
    rig.upstream.steps = [*hello_events()[:2], 30.0]
    if stream:
        answer = await rig.post(CHAT, chat(stream=True))
        await answer.content.readuntil(b"\n\n")
        answer.close()
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await rig.post(CHAT, chat())
    async with asyncio.timeout(3):
        await rig.upstream.cancelled.wait()


async def test_the_callers_patience_is_the_deadline_of_a_unary_call(rig: Rig) -> None:
    """`x-stainless-timeout` shortens the deadline; nonsense in it changes nothing."""
    await rig.post(CHAT, chat(), x_stainless_timeout="7")
    await rig.post(CHAT, chat(), x_stainless_timeout="nan")
    await rig.post(CHAT, chat(), x_stainless_timeout="99999")
    assert rig.upstream.remaining_s[0] == pytest.approx(7, abs=0.5)
    assert rig.upstream.remaining_s[1:] == [pytest.approx(600, abs=1), pytest.approx(600, abs=1)]


async def test_expiry_is_a_504_that_is_not_to_be_repeated(rig: Rig) -> None:
    """The deadline of the call passed before the server answered."""
    rig.upstream.delay_s = 5
    answer = await rig.post(CHAT, chat(), x_stainless_timeout="0.2")
    assert answer.status == 504
    assert (await answer.json())["error"]["code"] == "deadline_exceeded"


async def test_short_patience_brings_the_head_of_a_stream_early(rig: Rig) -> None:
    """The SDK's timeout ends with the head; the stream itself lives on."""
    rig.upstream.steps = [0.8, *hello_events()]
    answer = await asyncio.wait_for(rig.post(CHAT, chat(stream=True), x_stainless_timeout="0.5"), 0.6)
    assert sse(await answer.text())[-1] == "[DONE]"
    assert rig.upstream.remaining_s[0] > 3000


async def test_a_server_out_of_reach_is_said_without_its_address(rig: Rig) -> None:
    """What the transport says stays in the log."""
    async with open_rig() as other:
        await other.upstream_stop()
        answer = await other.post(CHAT, chat())
        text = await answer.text()
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert "unix" not in text
    assert "/tmp" not in text


async def test_warnings_are_a_header(rig: Rig) -> None:
    """What was left out is named, in printable ASCII, for whole answers and for streams."""
    rig.upstream.completion.warnings.add(field="tools[2]", why="not served\r\nhere — é")
    answer = await rig.post(CHAT, chat())
    assert answer.headers["x-tokendance-warnings"] == "tools[2]: not served??here ? ?"
    events = hello_events()
    assert isinstance(events[0], pb.CompletionEvent)
    events[0].started.warnings.add(field="user", why="no such field")
    rig.upstream.steps = events
    answer = await rig.post(CHAT, chat(stream=True))
    await answer.read()
    assert answer.headers["x-tokendance-warnings"] == "user: no such field"


async def test_an_idempotency_key_travels(rig: Rig) -> None:
    """It is passed on as it came; one that cannot be a key is refused."""
    await rig.post(CHAT, chat(), idempotency_key="abc-1")
    assert rig.upstream.requests[0].idempotency_key == "abc-1"
    answer = await rig.post(CHAT, chat(), idempotency_key="x" * 256)
    assert answer.status == 400


async def test_shutdown_tells_a_running_stream() -> None:
    """A stream that does not end in time gets an error event, and a new connection is refused."""
    async with open_rig() as rig:
        rig.upstream.steps = [*hello_events()[:2], 30.0]
        answer = await rig.post(CHAT, chat(stream=True))
        await answer.content.readuntil(b"\n\n")
        stopping = asyncio.create_task(rig.facade.stop(0.2))
        payloads = sse((await answer.read()).decode())
        await stopping
        assert json.loads(payloads[-1])["error"]["code"] == "service_stopping"


async def test_shutdown_tells_a_running_unary_call() -> None:
    """A call that does not end in time is answered with a retryable error."""
    async with open_rig() as rig:
        rig.upstream.delay_s = 30
        waiting = asyncio.create_task(rig.post(CHAT, chat()))
        while not rig.upstream.requests:
            await asyncio.sleep(0.01)
        await rig.facade.stop(0.1)
        answer = await waiting
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "service_stopping"


async def test_a_taken_port_is_told_with_its_address(rig: Rig) -> None:
    """The command line makes one clear line of it."""
    taken = rig.facade.http_url.rpartition(":")[2]
    with pytest.raises(AddressError, match="address already in use"):
        async with open_rig(http=f"127.0.0.1:{taken}"):
            pass


async def test_refusals_are_counted(rig: Rig) -> None:
    """Only what never became an RPC, by surface and code."""
    await rig.post(CHAT, chat(n=0))
    rig.upstream.failure = GatewayError(errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, "No such model.")
    await rig.post(CHAT, chat())
    count = rig.registry.get_sample_value
    labels = {"surface": "chat", "code": "invalid_request"}
    assert count("tokendance_facade_refusals_total", labels) == 1
    assert count("tokendance_facade_refusals_total", {**labels, "code": "model_not_found"}) is None


class TestOpenAI:
    """The official SDK as a client."""

    @pytest.fixture
    def client(self, rig: Rig) -> openai.AsyncOpenAI:
        """A client that repeats nothing."""
        return openai.AsyncOpenAI(base_url=f"{rig.facade.http_url}/v1", api_key=KEY, max_retries=0)

    async def test_chat_and_stream(self, client: openai.AsyncOpenAI) -> None:
        """Both give the text and the request id."""
        async with client:
            answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
            assert answer.choices[0].message.content == "Hello."
            assert (answer._request_id or "").startswith("req_")
            text = ""
            async with client.chat.completions.stream(
                model="m", messages=[{"role": "user", "content": "Hi"}], stream_options={"include_usage": True}
            ) as stream:
                async for event in stream:
                    if event.type == "content.delta":
                        text += event.delta
                final = await stream.get_final_completion()
            assert text == "Hello."
            assert final.usage is not None
            assert final.usage.total_tokens == 5

    async def test_tool_calls_assemble(self, rig: Rig, client: openai.AsyncOpenAI) -> None:
        """Id and name come once, though the server sends them with every delta."""
        first, *_, finish, last = hello_events()
        deltas = [
            pb.CompletionEvent(tool_call=pb.ToolCallDelta(index=0, id="c1", name="f", arguments=piece))
            for piece in ('{"a"', ":1}")
        ]
        assert isinstance(finish, pb.CompletionEvent)
        finish.choice_finished.finish_reason = pb.FINISH_REASON_TOOL_CALLS
        rig.upstream.steps = [first, *deltas, finish, last]
        tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        async with (
            client,
            client.chat.completions.stream(
                model="m", messages=[{"role": "user", "content": "Hi"}], tools=[tool]
            ) as stream,
        ):
            final = await stream.get_final_completion()
        calls = final.choices[0].message.tool_calls
        assert calls is not None
        assert (calls[0].id, calls[0].function.name, calls[0].function.arguments) == ("c1", "f", '{"a":1}')

    async def test_embeddings_and_models(self, rig: Rig, client: openai.AsyncOpenAI) -> None:
        """Base64 by default, floats when asked for; all pages of models; ids with slashes."""
        rig.upstream.embeddings.embeddings.add(index=0, float32_le=b"\x00\x00\x80\x3f\x00\x00\x00\xc0")
        async with client:
            assert (await client.embeddings.create(model="e", input="a")).data[0].embedding == [1.0, -2.0]
            asked = await client.embeddings.create(model="e", input="a", encoding_format="float")
            assert asked.data[0].embedding == [1.0, -2.0]
            assert [model.id for model in (await client.models.list()).data] == ["org/one", "two"]
            assert (await client.models.retrieve("org/one")).id == "org/one"

    async def test_errors_have_their_classes(self, rig: Rig, client: openai.AsyncOpenAI) -> None:
        """Status, code and request id reach the exception, mid-stream too."""
        table = {
            errors_pb2.ERROR_REASON_KEY_REVOKED: openai.AuthenticationError,
            errors_pb2.ERROR_REASON_MODEL_NOT_ALLOWED: openai.PermissionDeniedError,
            errors_pb2.ERROR_REASON_MODEL_NOT_FOUND: openai.NotFoundError,
            errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED: openai.BadRequestError,
            errors_pb2.ERROR_REASON_RATE_LIMIT_EXCEEDED: openai.RateLimitError,
            errors_pb2.ERROR_REASON_PROVIDER_ERROR: openai.InternalServerError,
        }
        async with client:
            for reason, expected in table.items():
                rig.upstream.failure = GatewayError(reason, "Because.")
                with pytest.raises(expected) as caught:
                    await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
                assert isinstance(caught.value, openai.APIStatusError)
                assert caught.value.code == GatewayError(reason, "").code
                assert (caught.value.request_id or "").startswith("req_")
            rig.upstream.failure = None
            rig.upstream.steps = [*hello_events()[:2], GatewayError(errors_pb2.ERROR_REASON_PROVIDER_ERROR, "Cut.")]
            stream = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            with pytest.raises(openai.APIError) as cut:
                async for _ in stream:
                    pass
            assert cut.value.code == "provider_error"
