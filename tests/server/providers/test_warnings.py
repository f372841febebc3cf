"""Warnings: in order, and never more than an answer has room for."""

from tokendance_server.providers.warnings import MOST_WARNINGS, Warnings


def test_what_fits_is_told_in_order() -> None:
    """Up to the bound itself, with no word of more."""
    warnings = Warnings()
    warnings.add("first", "why")
    warnings.add_all([f"x{number}" for number in range(MOST_WARNINGS - 1)], "because", "tools[0].")
    told = warnings.told()
    assert len(told) == MOST_WARNINGS
    assert (told[0].field, told[0].why) == ("first", "why")
    assert (told[-1].field, told[-1].why) == ("tools[0].x62", "because")


def test_the_last_says_how_many_more_there_were() -> None:
    """Itself included, for its place is one that a field would have had."""
    warnings = Warnings()
    warnings.add_all([f"x{number}" for number in range(MOST_WARNINGS)], "because")
    warnings.add_all(["more", "and more"], "because")
    warnings.add("last", "why")
    told = warnings.told()
    assert len(told) == MOST_WARNINGS
    assert told[-2].field == "x62"
    assert (told[-1].field, told[-1].why) == ("warnings", "4 more fields were left out or changed.")
