"""What a checkup says of the key, its models, a completion and a stream."""

from typing import Any

import pytest
from tests.tools.tokendance_cli.checkup.conftest import (
    MODELS,
    REQUEST_ID,
    USAGE,
    Scripted,
    ScriptedGateway,
    answer,
    events,
    page,
    refused,
)

from tokendance.errors import reason_of_code, spec_of
from tokendance_cli.checkup.finding import State
from tokendance_cli.failures import FAILED, UNREACHABLE


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_api_key", 401),
        ("key_expired", 401),
        ("key_revoked", 401),
        ("key_suspended", 401),
        ("ip_not_allowed", 403),
        ("gateway_overloaded", 503),
    ],
)
def test_a_key_that_is_refused_is_told_by_the_error_table(scripted: ScriptedGateway, code: str, status: int) -> None:
    """The gateway's own words, the table's advice, and the request id for support."""
    scripted.script["models"] = refused(code, status, "Its own words.")
    found = scripted.examine()
    key, reason = found["key"], reason_of_code(code)
    assert reason is not None
    assert (key.state, key.exit_code, key.code, key.request_id) == (State.FAILED, FAILED, code, REQUEST_ID)
    assert key.told == f"{code}: Its own words."
    assert key.do == (f"Check first: {spec_of(reason).check_first}",)
    assert found["models"].state is State.SKIPPED


def test_a_proxy_between_is_told_apart_from_the_gateway(scripted: ScriptedGateway) -> None:
    """Its page is no refusal of the key."""
    scripted.script["models"] = page(502)
    key = scripted.examine()["key"]
    assert (key.state, key.exit_code) == (State.FAILED, UNREACHABLE)
    assert "instead of the gateway (HTTP 502)" in key.told


@pytest.mark.parametrize("document", [{"data": "none"}, [], "text"])
def test_a_list_that_is_none_is_told(scripted: ScriptedGateway, document: Any) -> None:
    """Something changed the answer on its way."""
    scripted.script["models"] = answer(document)
    assert "not in the form" in scripted.examine()["key"].told


@pytest.mark.parametrize(("wanted", "near"), [("fsat", "fast"), ("FAST", "fast"), ("quikc", "quick")])
def test_a_model_that_is_not_there_is_told_with_its_nearest_names(
    scripted: ScriptedGateway, wanted: str, near: str
) -> None:
    """Aliases and other cases among them."""
    models = scripted.examine(model=wanted)["models"]
    assert (models.state, models.exit_code) == (State.FAILED, FAILED)
    assert models.do[0] == f"Perhaps you mean {near}."


def test_without_a_near_name_some_are_shown(scripted: ScriptedGateway) -> None:
    """So that one can choose."""
    scripted.script["models"] = answer({"data": [*MODELS, *({"id": f"m{n}"} for n in range(9))]})
    assert scripted.examine(model="zzzzzz")["models"].do[0] == "It may call fast, vectors, m0, m1, m2 and 6 more."


def test_a_key_without_models_is_told(scripted: ScriptedGateway) -> None:
    """Nothing can be called with it."""
    scripted.script["models"] = answer({"data": []})
    found = scripted.examine()
    assert (found["models"].state, found["completion"].state) == (State.FAILED, State.SKIPPED)
    assert "may call no model" in found["models"].told


def test_without_a_choice_one_that_completes_is_tried(scripted: ScriptedGateway) -> None:
    """An embedding model cannot show that completions work."""
    scripted.script["models"] = answer({"data": list(reversed(MODELS))})
    assert "so fast is tried" in scripted.examine()["models"].told
    assert scripted.examine(model="vectors")["completion"].told == "Not asked: vectors serves no completions."


def test_a_model_that_refuses_so_short_an_answer_is_asked_again(scripted: ScriptedGateway) -> None:
    """The longer, streamed answer decides."""
    scripted.script["completion"] = refused("provider_rejected", 400)
    found = scripted.examine()
    assert (found["completion"].state, found["streaming"].state) == (State.WARNING, State.OK)


@pytest.mark.parametrize("document", [{}, {"choices": []}, [], {"choices": [{}], "usage": "much"}])
def test_a_completion_in_another_form_is_told(scripted: ScriptedGateway, document: Any) -> None:
    """It counts as asked, for it may have cost something."""
    scripted.script["completion"] = answer(document)
    assert scripted.examine()["completion"].state is State.FAILED


def test_silence_is_told_with_its_length(scripted: ScriptedGateway) -> None:
    """A completion that does not come within the timeout."""
    scripted.script["completion"] = Scripted((0.6, b"{}"))
    found = scripted.examine(timeout_s=0.3)["completion"]
    assert (found.state, found.exit_code) == (State.FAILED, UNREACHABLE)
    assert "nothing was heard for 0.3 seconds" in found.told


def test_a_stream_that_came_whole_is_no_stream(scripted: ScriptedGateway) -> None:
    """A JSON document where events were asked for."""
    scripted.script["stream"] = answer({"choices": [{}]})
    found = scripted.examine()["streaming"]
    assert found.state is State.FAILED
    assert "a whole answer came" in found.told


def test_a_stream_that_was_held_back_is_warned_of(scripted: ScriptedGateway) -> None:
    """All of it at once after a wait: a proxy buffers."""
    whole = b"".join(
        piece for piece in events(*({"choices": [{}]} for _ in range(8))).pieces if isinstance(piece, bytes)
    )
    scripted.script["stream"] = Scripted((1.1, whole), 200, {"content-type": "text/event-stream"})
    found = scripted.examine()["streaming"]
    assert found.state is State.WARNING
    assert "at once" in found.told
    assert any("proxy_buffering off" in hint for hint in found.do)


def test_a_stream_that_is_cut_is_told(scripted: ScriptedGateway) -> None:
    """Its last event did not come."""
    scripted.script["stream"] = events({"choices": [{}]}, done=False)
    found = scripted.examine()["streaming"]
    assert (found.state, found.request_id) == (State.FAILED, REQUEST_ID)
    assert "before its end" in found.told


def test_an_error_inside_of_a_stream_is_told(scripted: ScriptedGateway) -> None:
    """After the first event an error is an event."""
    error = {"message": "It broke.", "code": "stream_interrupted"}
    scripted.script["stream"] = events({"choices": [{}]}, {"error": error})
    found = scripted.examine()["streaming"]
    assert (found.state, found.code) == (State.FAILED, "stream_interrupted")


def test_the_first_event_comes_before_the_end(scripted: ScriptedGateway) -> None:
    """Both times are told, and what it cost."""
    scripted.script["stream"] = events({"choices": [{}]}, 0.2, {"choices": [], "usage": USAGE})
    found = scripted.examine()["streaming"]
    assert found.state is State.OK
    assert "Cost: one request, 3 tokens in, 1 out" in found.told
