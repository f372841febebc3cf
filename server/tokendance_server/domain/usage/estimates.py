"""How many tokens a prompt or an answer is likely to have, learnt from what providers counted.

Each model has its own ratio of bytes to a token and its own usual answer. What is learnt is bounded in every
direction, so that no provider's odd counts can make a prompt look like nothing, or like everything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.usage.counts import Counts

FIRST_BYTES_PER_TOKEN = 4.0
"""What is taken for a model of which nothing is known."""
LEAST_BYTES_PER_TOKEN = 1.0
MOST_BYTES_PER_TOKEN = 8.0
MEDIA_TOKENS = 800
"""What a picture, a sound or a document counts, whatever its size."""
MESSAGE_TOKENS = 4
"""What a message takes besides its text: its role and its ends."""
FIRST_ANSWER_TOKENS = 1024
"""The size of an answer of a model of which nothing is known."""
LEAST_ANSWER_TOKENS = 64
MOST_ANSWER_TOKENS = 32_768

_MOST_MODELS = 10_000
_WEIGHT = 1 / 32
# Small prompts tell little of the ratio: what surrounds their text weighs more than the text.
_TELLING_BYTES = 256
# An answer that is longer than usual is rather held too large than too small: extending costs a trip to the store.
_SPREAD = 2.0


class PromptEstimate(NamedTuple):
    """A prompt before it is sent: its tokens, bytes of text, media, messages; `exact` where they were counted."""

    tokens: int
    size: int
    media: int
    messages: int
    exact: bool = False


class Tokenizer(Protocol):
    """Counts tokens exactly, for the models that it knows."""

    def count(self, model: str, request: pb.CompletionRequest, size: int) -> int | None:
        """Return the prompt tokens, or None where it cannot tell within its bound of time."""


class _Learnt:
    __slots__ = ("answer", "answer_spread", "answers", "ratio")

    def __init__(self) -> None:
        self.ratio = FIRST_BYTES_PER_TOKEN
        self.answers = 0
        self.answer = 0.0
        self.answer_spread = 0.0


class Estimates:
    """What is known of each model. Kept in memory: a node that starts learns anew within a few dozen calls."""

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        self._tokenizer = tokenizer
        self._models: OrderedDict[str, _Learnt] = OrderedDict()

    def prompt(self, model: str, request: pb.CompletionRequest) -> PromptEstimate:
        """Return the estimate of a prompt, 1 token or more; exact where a tokenizer for the model is at hand."""
        size = sum(
            size_of(tool.name)
            + size_of(tool.description)
            + size_of(tool.parameters_json)
            + size_of(tool.format_json)
            + size_of(tool.native_json)
            + size_of(tool.extra_json)
            for tool in request.tools
        )
        # Unknown fields may be read by the model, as a prediction of its answer is; so is the form that it must have.
        size += size_of(request.extra_json) + size_of(request.response_format.schema_json)
        media = messages = 0
        for message in request.messages:
            texts, more = measure(message.parts)
            size += texts + size_of(message.extra_json)
            media += more
            messages += 1
        if self._tokenizer is not None and not media:
            counted = self._tokenizer.count(model, request, size)
            if counted is not None:
                return PromptEstimate(counted, size, media, messages, exact=True)
        return self._estimate(model, size, media, messages)

    def texts(self, model: str, size: int) -> PromptEstimate:
        """Return the estimate of plain texts of so many bytes, such as those to embed."""
        return self._estimate(model, size, 0, 0)

    def delivered(self, model: str, size: int) -> int:
        """Return the tokens of a text of so many bytes that a model produced; 0 for none."""
        learnt = self._models.get(model)
        return -int(-size // (FIRST_BYTES_PER_TOKEN if learnt is None else learnt.ratio))

    def answer(self, model: str, cap: int | None) -> int:
        """Return the size that an answer is likely to stay below, in tokens: at most `cap`, 1 or more."""
        learnt = self._models.get(model)
        if learnt is None or learnt.answers == 0:
            likely = FIRST_ANSWER_TOKENS
        else:
            likely = int(learnt.answer + _SPREAD * learnt.answer_spread) + 1
            likely = min(max(likely, LEAST_ANSWER_TOKENS), MOST_ANSWER_TOKENS)
        return max(likely if cap is None else min(likely, cap), 1)

    def settled(self, model: str, prompt: PromptEstimate, counts: Counts, *, estimated: bool) -> None:
        """Learn from what a provider counted; counts that are estimates themselves teach nothing."""
        if estimated:
            return
        learnt = self._models.get(model)
        if learnt is None:
            learnt = self._models[model] = _Learnt()
            if len(self._models) > _MOST_MODELS:
                self._models.popitem(last=False)
        else:
            self._models.move_to_end(model)
        text_tokens = counts.input_tokens - prompt.messages * MESSAGE_TOKENS
        if prompt.size >= _TELLING_BYTES and text_tokens > 0 and not prompt.media:
            seen = min(max(prompt.size / text_tokens, LEAST_BYTES_PER_TOKEN), MOST_BYTES_PER_TOKEN)
            learnt.ratio += (seen - learnt.ratio) * _WEIGHT
        self._learn_answer(learnt, counts.output_tokens)

    def _learn_answer(self, learnt: _Learnt, tokens: int) -> None:
        learnt.answers += 1
        # The first answers count in full: an average that starts at nothing would take dozens of calls to mean much.
        weight = max(1 / learnt.answers, _WEIGHT)
        off = tokens - learnt.answer
        learnt.answer += off * weight
        learnt.answer_spread += (abs(off) - learnt.answer_spread) * weight

    def _estimate(self, model: str, size: int, media: int, messages: int) -> PromptEstimate:
        learnt = self._models.get(model)
        ratio = FIRST_BYTES_PER_TOKEN if learnt is None else learnt.ratio
        tokens = -int(-size // ratio) + media * MEDIA_TOKENS + messages * MESSAGE_TOKENS
        return PromptEstimate(max(tokens, 1), size, media, messages)


def size_of(text: str) -> int:
    """Return the bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def measure(parts: Iterable[pb.Part]) -> tuple[int, int]:
    """Return the bytes of text and the number of media in the parts."""
    size = media = 0
    for part in parts:
        kind = part.WhichOneof("content")
        if kind == "text":
            size += size_of(part.text.text)
        elif kind in ("image", "audio", "file"):
            media += 1
        elif kind == "tool_call":
            call = part.tool_call
            size += size_of(call.name) + size_of(call.arguments_json) + size_of(call.input)
        elif kind == "tool_result":
            texts, more = measure(part.tool_result.parts)
            size += texts
            media += more
        elif kind == "reasoning":
            size += size_of(part.reasoning.text) + sum(map(size_of, part.reasoning.summary))
        elif kind == "refusal":
            size += size_of(part.refusal.text)
        elif kind == "native":
            size += size_of(part.native.json)
    return size, media
