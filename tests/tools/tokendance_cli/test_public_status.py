"""What is news between two answers of `GET /v1/status`."""

from __future__ import annotations

from typing import Any

from tokendance_cli.public_status import changes


def told(**more: Any) -> dict[str, Any]:
    """An answer."""
    model = {"id": "fast", "state": "operational", "reason": None, "success_rate": 1.0, "median_first_byte_ms": 5}
    return {"state": "operational", "models": [model], "incidents": [], "maintenances": [], **more}


def test_figures_are_no_news() -> None:
    """They move with every request."""
    model = {"id": "fast", "state": "operational", "reason": None, "success_rate": 0.9, "median_first_byte_ms": None}
    assert list(changes(told(), told(models=[model]))) == []


def test_each_change_is_one_line() -> None:
    """The whole, models that change, come and go, incidents and maintenance."""
    slow = {"id": "fast", "state": "degraded", "reason": "Answers begin later than usual."}
    incident = {"name": "incidents/i", "phase": "investigating", "title": "Late answers"}
    work = {"name": "maintenances/m", "title": "Upgrade", "starts_at": "a"}
    now = told(state="degraded", models=[slow], incidents=[incident], maintenances=[work])
    assert list(changes(told(), now)) == [
        "everything: degraded",
        "fast  degraded  Answers begin later than usual.",
        "incidents/i  investigating  Late answers",
        "maintenances/m  Upgrade",
    ]
    assert list(changes(now, told(state="degraded", models=[slow]))) == ["incidents/i  over", "maintenances/m  over"]
    moved = told(state="degraded", models=[slow], incidents=[incident], maintenances=[{**work, "starts_at": "b"}])
    assert list(changes(now, moved)) == ["maintenances/m  Upgrade"]
