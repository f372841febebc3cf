"""Token estimates: four bytes a token, media at a flat rate."""

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.estimates import MEDIA_TOKENS, estimate_input, size_of, tokens_of


def test_a_token_is_four_bytes_begun() -> None:
    """Bytes of UTF-8, not characters: other scripts need more tokens a character."""
    assert [tokens_of(size) for size in (0, 1, 4, 5)] == [0, 1, 1, 2]
    assert size_of("abc") == 3
    assert size_of("世界") == 6


def test_everything_that_is_sent_counts() -> None:
    """Texts, calls, results, reasoning and tools; a picture counts the same whatever its size."""
    request = pb.CompletionRequest(
        messages=[
            pb.Message(
                role=pb.ROLE_ASSISTANT,
                parts=[
                    pb.Part(text=pb.Text(text="1234")),
                    pb.Part(reasoning=pb.ReasoningContent(text="1234")),
                    pb.Part(refusal=pb.Refusal(text="1234")),
                    pb.Part(tool_call=pb.ToolCall(name="1234", arguments_json="1234", input="1234")),
                    pb.Part(native=pb.NativePart(json="1234")),
                ],
            ),
            pb.Message(
                role=pb.ROLE_TOOL,
                parts=[
                    pb.Part(
                        tool_result=pb.ToolResult(
                            parts=[pb.Part(text=pb.Text(text="1234")), pb.Part(image=pb.Image(url="x" * 999))]
                        )
                    )
                ],
            ),
        ],
        tools=[pb.Tool(name="1234", description="1234", parameters_json="1234")],
    )
    assert estimate_input(request) == 11 + MEDIA_TOKENS
