"""Legacy completions."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.completions import TextStreamEncoder, decode, encode


def read(**fields: Any) -> Any:
    """Decode a request."""
    return decode(orjson.dumps({"model": "m", "prompt": "Once", **fields}))


def test_a_prompt_is_one_user_turn() -> None:
    """With the old default cap of 16 tokens."""
    call = read(temperature=1, logprobs=3, best_of=1, suffix="", x=1)
    assert call.completion.messages[0].parts[0].text.text == "Once"
    assert call.completion.max_output_tokens == 16
    assert (call.completion.logprobs.enabled, call.completion.logprobs.top) == (True, 3)
    assert call.completion.extra_json == '{"x":1}'
    assert not call.stream


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": None}, "prompt", "invalid_request"),
        ({"prompt": 5}, "prompt", "invalid_request"),
        ({"prompt": ["a", "b"]}, "prompt", "unsupported_parameter"),
        ({"prompt": [1, 2]}, "prompt", "unsupported_parameter"),
        ({"prompt": [[1, 2]]}, "prompt", "unsupported_parameter"),
        ({"suffix": "end"}, "suffix", "unsupported_parameter"),
        ({"best_of": 2}, "best_of", "unsupported_parameter"),
        ({"best_of": 1, "n": 2}, "best_of", "invalid_request"),
        ({"logprobs": 6}, "logprobs", "invalid_request"),
        ({"logprobs": True}, "logprobs", "invalid_request"),
        ({"echo": True, "logprobs": 1}, "echo", "unsupported_parameter"),
        ({"max_tokens": 0}, "max_tokens", "invalid_request"),
        ({"stream_options": {}}, "stream_options", "invalid_request"),
    ],
)
def test_refusals(fields: dict[str, Any], param: str, code: str) -> None:
    """What is wrong, and what is not served yet."""
    with pytest.raises(GatewayError) as caught:
        read(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_a_whole_answer_echoes_when_asked() -> None:
    """The prompt stands before the text."""
    answer = pb.Completion(id="c", model="m", created=7)
    choice = answer.choices.add(finish_reason=pb.FINISH_REASON_LENGTH)
    choice.message.parts.add().text.text = " upon"
    choice.logprobs.add(token=" upon", logprob=-1).top.add(token=" a", logprob=-2)
    answer.usage.input_tokens = 1
    body = json.loads(encode(answer, echo=read(echo=True).echo))
    assert body["object"] == "text_completion"
    assert body["choices"][0] == {
        "text": "Once upon",
        "index": 0,
        "logprobs": {
            "tokens": [" upon"],
            "token_logprobs": [-1.0],
            "top_logprobs": [{" a": -2.0}],
            "text_offset": [4],
        },
        "finish_reason": "length",
    }


def test_a_stream_holds_new_text_only() -> None:
    """Echo first, then deltas, the finish reason, usage and the end."""
    encoder = TextStreamEncoder(include_usage=True, echo="Once")
    data = encoder.feed([pb.CompletionEvent(started=pb.Started(id="c", model="m", created=7))])
    assert data == b""
    data = encoder.feed(
        [
            pb.CompletionEvent(text=pb.TextDelta(text=" upon")),
            pb.CompletionEvent(choice_finished=pb.ChoiceFinished(finish_reason=pb.FINISH_REASON_STOP)),
            pb.CompletionEvent(finished=pb.Finished(usage=pb.Usage(input_tokens=1))),
        ]
    )
    assert encoder.finished
    *payloads, done, _ = data.decode().split("\n\n")
    chunks = [json.loads(payload.removeprefix("data: ")) for payload in payloads]
    assert done == "data: [DONE]"
    texts = [(chunk["choices"][0]["text"], chunk["choices"][0]["finish_reason"]) for chunk in chunks[:-1]]
    assert texts == [("Once", None), (" upon", None), ("", "stop")]
    assert chunks[-1]["usage"]["prompt_tokens"] == 1


def test_unknown_fields_have_a_bound() -> None:
    """The first one too many is named."""
    body = {"model": "m", "prompt": "a", **{f"x{number}": 1 for number in range(257)}}
    with pytest.raises(GatewayError) as caught:
        decode(orjson.dumps(body))
    assert (caught.value.code, caught.value.param) == ("invalid_request", "x256")
