"""Texts as HTML."""

from __future__ import annotations

from tokendance_facade.pages.marking import codes, ticks


def test_what_is_between_backticks_is_code_and_everything_is_escaped() -> None:
    """Also what is code, and a backtick that stands alone."""
    assert ticks("Send `a<b` & <i>") == "Send <code>a&lt;b</code> &amp; &lt;i&gt;"
    assert ticks("") == ""


def test_codes_of_errors_lead_to_their_rows() -> None:
    """As whole words, the longer one where one is in another; words that are no code stay."""
    assert codes("Errors include: model_not_found, not_found.") == (
        'Errors include: <a href="/errors#model_not_found">model_not_found</a>, '
        '<a href="/errors#not_found">not_found</a>.'
    )
    assert codes("It was cancelled; my_not_found <b>") == "It was cancelled; my_not_found &lt;b&gt;"
