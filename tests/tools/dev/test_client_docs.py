"""The pages of clients say what the command writes."""

from pathlib import Path

from dev.client_docs import FOLDER, main, pages


def test_committed_pages_are_up_to_date() -> None:
    """They are generated, never edited."""
    assert main(["--check"]) == 0


def test_every_link_leads_to_a_page() -> None:
    """Of those that are written and of those that are not."""
    for name, text in pages():
        for part in text.split("](")[1:]:
            target = part.partition(")")[0]
            assert target.startswith("http") or Path(FOLDER, target).is_file(), (name, target)


def test_pages_of_the_two_programs_of_ours_promise_nothing_that_is_not_so() -> None:
    """TokenDanceCode is an experiment that nothing selects by itself; AgentHub's desktop holds no model key."""
    told = {name: " ".join(text.split()) for name, text in pages()}
    assert "This is experimental. Nothing selects the gateway by itself" in told["tokendancecode.md"]
    assert "Desktop and Web hold no model key, and a Hub session is not one" in told["agenthub.md"]
