"""Judges how well models work: from what was counted, what is usual, and what people said. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tokendance import status_words as words
from tokendance.status_words import State
from tokendance_server.domain.status.incidents import Incident, Maintenance
from tokendance_server.domain.status.tally import Counts

WHOLE = ""
"""Stands for the whole where a model's id stands for a model."""

_SLOW = "Answers begin later than usual."
_HELPED = "Some requests are answered only by a retry or by another model."
_FEW_FAIL = "A few requests fail."
_SOME_FAIL = "Some requests fail."
_MOST_FAIL = "Most requests fail."


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state with why: one sentence, empty where it is operational. `incident` is the id of the one that states it."""

    state: State = State.OPERATIONAL
    reason: str = ""
    incident: str = ""


WORKS = Verdict()
"""What is said where nothing else is."""


@dataclass(frozen=True, slots=True)
class Notices:
    """The incidents and the maintenance that may matter at a time."""

    incidents: Sequence[Incident] = ()
    maintenances: Sequence[Maintenance] = ()

    def verdict(self, model: str, time: datetime) -> Verdict | None:
        """Return what people said of a model, or of the whole; None where they said nothing.

        An incident wins over maintenance: somebody looked and wrote it. Of several, the worst holds.
        """
        stated = [
            (state, one)
            for one in self.incidents
            if (not one.models if model == WHOLE else one.touches(model)) and (state := one.state_at(time)) is not None
        ]
        if stated:
            state, incident = max(stated, key=lambda pair: pair[0].severity)
            return Verdict(state, "" if state is State.OPERATIONAL else incident.title, incident.id)
        for one in self.maintenances:
            if one.runs_at(time) and (not one.draft.models if model == WHOLE else one.touches(model)):
                return Verdict(State.MAINTENANCE, one.draft.title)
        return None


def of_traffic(counts: Counts | None, usual_s: float | None) -> Verdict:
    """Return what requests say; `usual_s` is the usual median time to the first byte, None where it is not known."""
    if counts is None or counts.total < words.LEAST_REQUESTS:
        return WORKS
    failed = counts.failed * 1000 // counts.total
    if counts.failed >= words.LEAST_TROUBLED:
        if failed >= words.FAILED_MAJOR_PERMILLE:
            return Verdict(State.MAJOR_OUTAGE, _MOST_FAIL)
        if failed >= words.FAILED_PARTIAL_PERMILLE:
            return Verdict(State.PARTIAL_OUTAGE, _SOME_FAIL)
        if failed >= words.FAILED_DEGRADED_PERMILLE:
            return Verdict(State.DEGRADED, _FEW_FAIL)
    helped = counts.helped * 1000 // counts.total
    if counts.helped >= words.LEAST_TROUBLED and helped >= words.HELPED_DEGRADED_PERMILLE:
        return Verdict(State.DEGRADED, _HELPED)
    if is_slow(counts, usual_s):
        return Verdict(State.DEGRADED, _SLOW)
    return WORKS


def is_slow(counts: Counts, usual_s: float | None) -> bool:
    """Tell whether answers begin later than usual."""
    if usual_s is None or sum(counts.latencies.values()) < words.LEAST_REQUESTS:
        return False
    median = counts.median_s()
    return median is not None and median >= max(words.SLOW_FACTOR * usual_s, words.SLOW_LEAST_S)


def judge(
    models: Iterable[str],
    counted: Mapping[str, Counts],
    usual_s: Mapping[str, float],
    notices: Notices,
    time: datetime,
) -> dict[str, Verdict]:
    """Return the verdict on each model, and under WHOLE that on everything.

    The whole is what most of the traffic meets: the sum of all requests by the same thresholds, and never better than
    the best of the models.
    """
    verdicts = {
        model: notices.verdict(model, time) or of_traffic(counted.get(model), usual_s.get(model)) for model in models
    }
    total = Counts()
    for counts in counted.values():
        # Models differ too much in their pace for one median: the whole is slow where most of its models are.
        total.add(Counts(counts.answered, counts.helped, counts.failed))
    whole = notices.verdict(WHOLE, time) or of_traffic(total, None)
    best = min((one.state for one in verdicts.values()), key=lambda state: state.severity, default=State.OPERATIONAL)
    if not whole.incident and best.severity > whole.state.severity:
        whole = next(one for one in verdicts.values() if one.state is best)
    verdicts[WHOLE] = whole
    return verdicts
