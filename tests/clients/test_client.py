"""The synchronous client over grpcio-testing's channel: what it sends, and what it makes of the answers."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import grpc
import grpc_testing
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from tokendance import Client, GatewayError, last_request_id, text_message, text_of, vector_of
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions_pb
from tokendance.gateway.v1 import errors_pb2, keys_service_pb2, models_service_pb2
from tokendance.rpc import STATUS_DETAILS_KEY, to_status

KEY = "tdk_made-up"
REQUEST_ID = (("x-request-id", "req_1"),)


def _service(module: Any, name: str) -> ServiceDescriptor:
    return cast("ServiceDescriptor", module.DESCRIPTOR.services_by_name[name])


COMPLETIONS = _service(completions_pb, "CompletionsService")
KEYS = _service(keys_service_pb2, "KeysService")
MODELS = _service(models_service_pb2, "ModelsService")


def _method(service: ServiceDescriptor, name: str) -> MethodDescriptor:
    return service.methods_by_name[name]


class Rig:
    """A client in a thread of its own, and the testing channel that plays the gateway."""

    def __init__(self) -> None:
        self.channel = grpc_testing.channel([COMPLETIONS, KEYS, MODELS], grpc_testing.strict_real_time())
        self.client = Client(api_key=KEY, channel=self.channel)
        self._pool = ThreadPoolExecutor(1)

    def start(self, call: Callable[[Client], Any]) -> Future[Any]:
        return self._pool.submit(call, self.client)

    def answer(self, service: ServiceDescriptor, name: str, response: Any) -> tuple[Any, dict[str, Any]]:
        """Answers one unary call well; returns its request and its metadata."""
        metadata, request, rpc = self.channel.take_unary_unary(_method(service, name))
        rpc.send_initial_metadata(REQUEST_ID)
        rpc.terminate(response, (), grpc.StatusCode.OK, "")
        return request, {item[0]: item[1] for item in metadata}

    def fail(self, service: ServiceDescriptor, name: str, error: GatewayError) -> None:
        _, _, rpc = self.channel.take_unary_unary(_method(service, name))
        rpc.send_initial_metadata(())
        status = to_status(error)
        trailing = ((STATUS_DETAILS_KEY, status.SerializeToString()),)
        rpc.terminate(None, trailing, _code(status.code), status.message)

    def close(self) -> None:
        self._pool.shutdown()


def _code(number: int) -> grpc.StatusCode:
    return next(code for code in grpc.StatusCode if code.value[0] == number)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A client, and the gateway that the test plays."""
    made = Rig()
    yield made
    made.close()


def _said(text: str) -> pb.Completion:
    return pb.Completion(choices=[pb.Choice(message=text_message("assistant", text))])


def test_complete_sends_key_and_conversation(rig: Rig) -> None:
    """Simple arguments become the canonical request; the key travels as a bearer token."""
    answer = rig.start(
        lambda client: client.complete("m", "Hello", system="Be brief", max_output_tokens=5, temperature=0.0)
    )
    request, metadata = rig.answer(
        COMPLETIONS, "CreateCompletion", completions_pb.CreateCompletionResponse(completion=_said("Hi"))
    )
    assert text_of(answer.result(5)) == "Hi"
    assert metadata["authorization"] == f"Bearer {KEY}"
    sent = request.completion
    assert (sent.model, sent.max_output_tokens) == ("m", 5)
    assert [message.role for message in sent.messages] == [pb.ROLE_SYSTEM, pb.ROLE_USER]
    assert sent.sampling.HasField("temperature")


def test_request_id_of_the_newest_answer_is_known(rig: Rig) -> None:
    """After a call its thread can name the request id."""

    def call(client: Client) -> str | None:
        client.get_model("m")
        return last_request_id()

    answer = rig.start(call)
    request, _ = rig.answer(MODELS, "GetModel", models_service_pb2.GetModelResponse())
    assert request.name == "m"
    assert answer.result(5) == "req_1"


def test_request_id_may_come_in_the_trailer(rig: Rig) -> None:
    """A unary answer whose head is empty still names its request id."""

    def call(client: Client) -> str | None:
        client.get_model("m")
        return last_request_id()

    answer = rig.start(call)
    _, _, rpc = rig.channel.take_unary_unary(_method(MODELS, "GetModel"))
    rpc.send_initial_metadata(())
    rpc.terminate(models_service_pb2.GetModelResponse(), (("x-request-id", "req_2"),), grpc.StatusCode.OK, "")
    assert answer.result(5) == "req_2"


def test_failed_call_raises_the_gateway_error(rig: Rig) -> None:
    """Code, message, request id, metadata and retryable arrive as the gateway sent them."""
    answer = rig.start(lambda client: client.complete("m", "Hello"))
    rig.fail(
        COMPLETIONS,
        "CreateCompletion",
        GatewayError(
            errors_pb2.ERROR_REASON_RATE_LIMIT_EXCEEDED,
            "Wait.",
            retry_after_s=7,
            request_id="req_2",
            metadata={"limit": "60"},
        ),
    )
    with pytest.raises(GatewayError) as caught:
        answer.result(5)
    error = caught.value
    assert (error.code, error.message, error.request_id) == ("rate_limit_exceeded", "Wait.", "req_2")
    assert error.retryable
    assert error.retry_after_s == 7
    assert error.metadata == {"limit": "60"}


def _stream_of(rig: Rig) -> Any:
    _, _, rpc = rig.channel.take_unary_stream(_method(COMPLETIONS, "StreamCompletion"))
    rpc.send_initial_metadata(REQUEST_ID)
    return rpc


def _events(*events: pb.CompletionEvent) -> completions_pb.StreamCompletionResponse:
    return completions_pb.StreamCompletionResponse(events=events)


STARTED = pb.CompletionEvent(started=pb.Started(id="res_1", model="m"))
FINISHED = pb.CompletionEvent(finished=pb.Finished(usage=pb.Usage(output_tokens=2)))


def _text(text: str, choice: int = 0) -> pb.CompletionEvent:
    return pb.CompletionEvent(text=pb.TextDelta(text=text, choice=choice))


def test_stream_yields_text_and_keeps_usage(rig: Rig) -> None:
    """Texts of one choice come in order; usage and request id are there at the end."""

    def call(client: Client) -> tuple[list[str], int, str | None]:
        with client.stream("m", "Hello") as stream:
            texts = list(stream.texts())
            assert stream.finished is not None
            return texts, stream.finished.usage.output_tokens, stream.request_id

    answer = rig.start(call)
    rpc = _stream_of(rig)
    rpc.send_response(_events(STARTED, _text("Hel"), _text("other", choice=1)))
    rpc.send_response(_events(_text("lo"), FINISHED))
    rpc.terminate((), grpc.StatusCode.OK, "")
    assert answer.result(5) == (["Hel", "lo"], 2, "req_1")


def test_stream_that_ends_without_finished_is_an_error(rig: Rig) -> None:
    """A stream that was cut never looks like a whole answer, even with status OK."""
    answer = rig.start(lambda client: list(client.stream("m", "Hello").texts()))
    rpc = _stream_of(rig)
    rpc.send_response(_events(STARTED, _text("Hel")))
    rpc.terminate((), grpc.StatusCode.OK, "")
    with pytest.raises(GatewayError) as caught:
        answer.result(5)
    assert (caught.value.code, caught.value.request_id) == ("stream_interrupted", "req_1")


def test_error_in_mid_stream_comes_after_what_was_sent(rig: Rig) -> None:
    """What arrived before the failure is given out, then the typed error is raised."""
    seen: list[str] = []
    # The testing channel forgets what nobody has read when a call fails; gRPC does not.
    read = threading.Event()

    def collect(client: Client) -> None:
        for text in client.stream("m", "Hello").texts():
            seen.append(text)
            read.set()

    answer = rig.start(collect)
    rpc = _stream_of(rig)
    rpc.send_response(_events(STARTED, _text("Hel")))
    assert read.wait(5)
    status = to_status(GatewayError(errors_pb2.ERROR_REASON_PROVIDER_ERROR, "It broke.", origin="provider"))
    trailing = ((STATUS_DETAILS_KEY, status.SerializeToString()),)
    rpc.terminate(trailing, _code(status.code), status.message)
    with pytest.raises(GatewayError) as caught:
        answer.result(5)
    assert seen == ["Hel"]
    assert (caught.value.code, caught.value.origin) == ("provider_error", "provider")


def test_lists_go_through_every_page(rig: Rig) -> None:
    """A list asks for the next page with the token of the last one until there is none."""
    answer = rig.start(lambda client: [key.name for key in client.list_keys(team="t")])
    pages = [
        keys_service_pb2.ListKeysResponse(keys=[keys_service_pb2.Key(name="a")], next_page_token="2"),
        keys_service_pb2.ListKeysResponse(keys=[keys_service_pb2.Key(name="b")]),
    ]
    first, _ = rig.answer(KEYS, "ListKeys", pages[0])
    assert (first.parent, first.team) == ("organizations/-", "t")
    second, _ = rig.answer(KEYS, "ListKeys", pages[1])
    assert second.page_token == "2"
    assert answer.result(5) == ["a", "b"]


def test_create_key_gives_the_secret(rig: Rig) -> None:
    """The answer of a creation holds key and secret."""
    wanted = keys_service_pb2.Key(purpose="ci")
    answer = rig.start(lambda client: client.create_key("organizations/o", wanted, request_id="r"))
    request, _ = rig.answer(KEYS, "CreateKey", keys_service_pb2.CreateKeyResponse(key=wanted, secret="tdk_new"))
    assert (request.parent, request.request_id, request.key.purpose) == ("organizations/o", "r", "ci")
    assert answer.result(5).secret == "tdk_new"


def test_embed_and_explain(rig: Rig) -> None:
    """Vectors are read back as numbers; an explanation comes whole."""
    embeddings = pb.Embeddings(embeddings=[pb.Embedding(float32_le=b"\x00\x00\x80?\x00\x00\x00\xbf")])
    answer = rig.start(lambda client: client.embed("m", "text", dimensions=2))
    request, _ = rig.answer(
        COMPLETIONS, "CreateEmbeddings", completions_pb.CreateEmbeddingsResponse(embeddings=embeddings)
    )
    assert (list(request.embeddings.inputs), request.embeddings.dimensions) == (["text"], 2)
    assert vector_of(answer.result(5).embeddings[0]) == [1.0, -0.5]
    explained = rig.start(lambda client: client.explain("m", "Hello"))
    rig.answer(COMPLETIONS, "ExplainCompletion", completions_pb.ExplainCompletionResponse(admitted=True))
    assert explained.result(5).admitted


def test_stubs_carry_the_same_key_and_errors(rig: Rig) -> None:
    """An RPC without a method of its own is called through its stub, with credential and GatewayError."""
    request = keys_service_pb2.RotateKeyRequest(name="k")
    rotated = rig.start(lambda client: client.stubs.keys.RotateKey(request, timeout=5))
    _, metadata = rig.answer(KEYS, "RotateKey", keys_service_pb2.RotateKeyResponse(secret="s"))
    assert metadata["authorization"] == f"Bearer {KEY}"
    assert rotated.result(5).secret == "s"
    ended = keys_service_pb2.RevokeKeyRequest(name="k", reason="over")
    revoked = rig.start(lambda client: client.stubs.keys.RevokeKey(ended, timeout=5))
    told, _ = rig.answer(KEYS, "RevokeKey", keys_service_pb2.RevokeKeyResponse(key=keys_service_pb2.Key(name="k")))
    assert (told, revoked.result(5).key.name) == (ended, "k")
    refused = rig.start(lambda client: client.stubs.keys.RotateKey.future(request).result())
    rig.fail(KEYS, "RotateKey", GatewayError(errors_pb2.ERROR_REASON_VERSION_CONFLICT, "Read it again."))
    with pytest.raises(GatewayError, match="version_conflict"):
        refused.result(5)


class _Recorder:
    """A channel whose RPCs fail at once and keep what they were called with."""

    def __init__(self) -> None:
        self.terms: list[dict[str, Any]] = []

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        recorder = self

        class Rpc:
            def with_call(self, request: Any, **terms: Any) -> Any:
                recorder.terms.append(terms)
                raise grpc.FutureTimeoutError

        return Rpc()

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        def rpc(request: Any, **terms: Any) -> Any:
            self.terms.append(terms)
            return iter(())

        return rpc


@pytest.mark.parametrize(("given", "expected"), [(None, 600.0), (2.5, 2.5)])
def test_unary_calls_have_a_deadline(given: float | None, expected: float) -> None:
    """Without a word of the caller a unary call ends after 600 s."""
    recorder = _Recorder()
    client = Client(channel=cast("grpc.Channel", recorder), api_key="")
    with pytest.raises(grpc.FutureTimeoutError):
        client.get_model("m", timeout_s=given)
    assert recorder.terms[0]["timeout"] == expected
    assert recorder.terms[0]["metadata"] == ()


@pytest.mark.parametrize(("given", "expected"), [(None, 3600.0), (2.5, 2.5)])
def test_streams_have_a_deadline(given: float | None, expected: float) -> None:
    """Without a word of the caller a stream ends after 3,600 s."""
    recorder = _Recorder()
    Client(channel=cast("grpc.Channel", recorder), api_key="").stream("m", "Hello", timeout_s=given)
    assert recorder.terms[0]["timeout"] == expected
