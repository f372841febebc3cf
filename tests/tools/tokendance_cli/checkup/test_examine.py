"""The order of a checkup: what is asked of whom, and what is skipped after a failure."""

from tests.tools.tokendance_cli.checkup.conftest import KEY, ScriptedGateway, page, refused

from tokendance_cli.checkup import CHECKS
from tokendance_cli.checkup.finding import Spent, State


def test_all_is_well(scripted: ScriptedGateway) -> None:
    """Every check is told, in order; two requests are spent, and the cost is told in tokens."""
    spent = Spent()
    found = scripted.examine(model="quick", spent=spent)
    assert tuple(found) == CHECKS
    assert {one.state for one in found.values()} == {State.OK}
    assert "one request, 3 tokens in, 1 out" in found["completion"].told
    assert (spent.requests, spent.input_tokens, spent.output_tokens) == (2, 6, 2)


def test_the_key_follows_only_after_a_gateway_has_answered_without_it(scripted: ScriptedGateway) -> None:
    """The first request carries no credential."""
    scripted.examine()
    assert scripted.asked[0] == ("/v1/models", None)
    assert scripted.asked[1] == ("/v1/models", f"Bearer {KEY}")


def test_what_is_no_gateway_never_sees_the_key(scripted: ScriptedGateway) -> None:
    """A page of somebody else ends the checkup; its words are not repeated."""
    scripted.script["open"] = page(200)
    found = scripted.examine()
    assert found["gateway"].state is State.FAILED
    assert {found[name].state for name in CHECKS[3:]} == {State.SKIPPED}
    assert scripted.keys_seen() == []
    assert "page-of-others" not in repr(found)


def test_a_wrong_credential_is_not_sent_and_the_way_is_still_examined(scripted: ScriptedGateway) -> None:
    """Somebody with the wrong credential learns at once whether the address is right."""
    found = scripted.examine(credential="sk-ant-api03-secret-of-others")
    assert (found["credential"].state, found["gateway"].state) == (State.FAILED, State.OK)
    assert {found[name].state for name in CHECKS[4:]} == {State.SKIPPED}
    assert scripted.keys_seen() == []
    assert "secret-of-others" not in repr(found)


def test_calls_can_be_left_out(scripted: ScriptedGateway) -> None:
    """With skip_completion nothing is spent."""
    spent = Spent()
    found = scripted.examine(skip_completion=True, spent=spent)
    assert (found["models"].state, found["completion"].state, found["streaming"].state) == (
        State.OK,
        State.SKIPPED,
        State.SKIPPED,
    )
    assert spent.requests == 0


def test_a_failed_completion_is_not_repeated_as_a_stream(scripted: ScriptedGateway) -> None:
    """One failure costs one request."""
    spent = Spent()
    scripted.script["completion"] = refused("provider_unavailable", 503)
    found = scripted.examine(spent=spent)
    assert (found["completion"].state, found["streaming"].state) == (State.FAILED, State.SKIPPED)
    assert spent.requests == 1
