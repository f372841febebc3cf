"""States at and around each threshold, and what people say in their place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tokendance.status_words import State
from tokendance_server.domain.status.incidents import Incident, Maintenance, MaintenanceDraft, Phase, Update
from tokendance_server.domain.status.tally import Counts
from tokendance_server.domain.status.verdicts import WHOLE, Notices, judge, of_traffic

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OPERATIONAL, DEGRADED, MAINTENANCE = State.OPERATIONAL, State.DEGRADED, State.MAINTENANCE
PARTIAL, MAJOR = State.PARTIAL_OUTAGE, State.MAJOR_OUTAGE


def incident(state: State, *models: str, opened: datetime = NOW - MINUTE, resolved: datetime | None = None) -> Incident:
    """An incident."""
    return Incident(
        id=f"inc_{state}",
        title=f"It is {state}",
        state=state,
        phase=Phase.INVESTIGATING,
        models=models,
        start_time=opened,
        create_time=opened,
        resolve_time=resolved,
    )


def work(*models: str, cancelled: bool = False) -> Maintenance:
    """Maintenance from a minute ago to in a minute."""
    draft = MaintenanceDraft("Upgrade", NOW - MINUTE, NOW + MINUTE, models=models, cancelled=cancelled)
    return Maintenance(id="mnt_1", draft=draft, create_time=NOW - MINUTE)


@pytest.mark.parametrize(
    ("answered", "helped", "failed", "state"),
    [
        (0, 0, 0, OPERATIONAL),
        (0, 0, 4, OPERATIONAL),
        (0, 0, 5, MAJOR),
        (3, 0, 3, MAJOR),
        (4, 0, 3, PARTIAL),
        (57, 0, 3, PARTIAL),
        (58, 0, 3, DEGRADED),
        (1000, 0, 2, OPERATIONAL),
        (297, 0, 3, DEGRADED),
        (298, 0, 3, OPERATIONAL),
        (10, 2, 0, OPERATIONAL),
        (27, 3, 0, DEGRADED),
        (28, 3, 0, OPERATIONAL),
        (8, 0, 2, OPERATIONAL),
    ],
)
def test_shares_of_requests_give_the_state(answered: int, helped: int, failed: int, state: State) -> None:
    """Each threshold from both sides; a few requests, or few that fail, say nothing."""
    verdict = of_traffic(Counts(answered, helped, failed), None)
    assert verdict.state is state
    assert bool(verdict.reason) == (state is not OPERATIONAL)


@pytest.mark.parametrize(
    ("step", "usual_s", "state"),
    [(92, 1.0, DEGRADED), (92, None, OPERATIONAL), (88, 1.0, OPERATIONAL), (80, 0.1, OPERATIONAL)],
)
def test_slow_is_three_times_the_usual_and_a_second(step: int, usual_s: float | None, state: State) -> None:
    """What is quick enough is never slow, and what is not known is not judged. The steps are 4.7, 2.4 and 0.6 s."""
    assert of_traffic(Counts(9, latencies={step: 9}), usual_s).state is state


def test_incident_takes_the_place_of_what_is_measured() -> None:
    """Better or worse; of several the worst; over maintenance; only for its models, and only while it is open."""
    broken = {"a": Counts(0, 0, 9), "b": Counts(9)}

    def states(*said: Incident | Maintenance) -> list[State]:
        notices = Notices(
            [one for one in said if isinstance(one, Incident)], [one for one in said if isinstance(one, Maintenance)]
        )
        verdicts = judge(["a", "b"], broken, {}, notices, NOW)
        return [verdicts["a"].state, verdicts["b"].state, verdicts[WHOLE].state]

    assert states() == [MAJOR, OPERATIONAL, MAJOR]
    assert states(incident(OPERATIONAL, "a")) == [OPERATIONAL, OPERATIONAL, MAJOR]
    assert states(incident(DEGRADED, "b"), incident(PARTIAL, "b")) == [MAJOR, PARTIAL, MAJOR]
    assert states(incident(DEGRADED), work()) == [DEGRADED, DEGRADED, DEGRADED]
    assert states(work("a")) == [MAINTENANCE, OPERATIONAL, MAJOR]
    assert states(work("a", cancelled=True)) == [MAJOR, OPERATIONAL, MAJOR]
    assert states(incident(DEGRADED, resolved=NOW)) == [MAJOR, OPERATIONAL, MAJOR]
    assert states(incident(DEGRADED, opened=NOW + MINUTE)) == [MAJOR, OPERATIONAL, MAJOR]


def test_incident_says_at_each_time_what_it_said_then() -> None:
    """The history is judged later than it happens."""
    one = incident(MAJOR)
    said = (Update(NOW - MINUTE, Phase.INVESTIGATING, DEGRADED, "a"), Update(NOW, Phase.IDENTIFIED, MAJOR, "b"))
    changed = Incident(
        id=one.id,
        title=one.title,
        state=MAJOR,
        phase=Phase.IDENTIFIED,
        updates=said,
        start_time=one.start_time,
        create_time=one.create_time,
    )
    assert [changed.state_at(NOW - 2 * MINUTE), changed.state_at(NOW - MINUTE / 2)] == [None, DEGRADED]
    assert changed.state_at(NOW + MINUTE) is MAJOR


def test_whole_is_what_most_of_the_traffic_meets() -> None:
    """One broken model of many with little traffic leaves it operational; with all models down it is down."""
    many = {"a": Counts(0, 0, 5), "b": Counts(1000)}
    verdicts = judge(["a", "b"], many, {}, Notices(), NOW)
    assert (verdicts["a"].state, verdicts[WHOLE].state) == (MAJOR, OPERATIONAL)
    quiet = judge(["a", "b"], {}, {}, Notices([incident(PARTIAL, "a"), incident(MAJOR, "b")]), NOW)
    assert quiet[WHOLE].state is PARTIAL
    assert judge([], {}, {}, Notices(), NOW)[WHOLE].state is OPERATIONAL
