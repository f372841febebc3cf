"""From a credential to a streamed answer, check by check: what works, what does not, and what to do about it.

The key goes only to what has answered as a gateway without it, and a credential of another kind goes nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokendance_cli.checkup.calls import choose_model, complete, list_models, stream
from tokendance_cli.checkup.credential import examine_credential
from tokendance_cli.checkup.finding import Finding, Spent, State, Subject
from tokendance_cli.checkup.gateway import examine_base_url, examine_clock, examine_gateway

CHECKS = ("credential", "base url", "gateway", "clock", "key", "models", "completion", "streaming")


def examine(subject: Subject, spent: Spent, *, skip_completion: bool = False) -> Iterator[Finding]:
    """Yield one finding for each of CHECKS, in order, as soon as it is known; what cannot be asked is skipped."""
    credential = examine_credential(subject)
    yield credential
    yield examine_base_url(subject)
    gateway, reached = examine_gateway(subject)
    yield gateway
    if reached is None or not reached.is_gateway:
        yield from _skip("clock", "no gateway answers")
        return
    yield examine_clock(reached)
    if gateway.state is State.FAILED:
        yield from _skip("key", "the gateway does not serve there")
    elif credential.state is State.FAILED:
        yield from _skip("key", "there is no API key to send")
    else:
        yield from _examine_key(subject, spent, skip_completion=skip_completion)


def _examine_key(subject: Subject, spent: Spent, *, skip_completion: bool) -> Iterator[Finding]:
    key, models = list_models(subject)
    yield key
    if key.state is State.FAILED:
        yield from _skip("models", "the key was not accepted")
        return
    found, model = choose_model(subject, models)
    yield found
    if model is None:
        yield from _skip("completion", "there is no model to ask")
    elif skip_completion:
        yield from _skip("completion", "--skip-completion was given")
    elif not model.completes:
        yield from _skip("completion", f"{model.name} serves no completions")
    else:
        name = subject.model or model.name
        completion = complete(subject, name, spent)
        yield completion
        if completion.state is State.FAILED:
            yield from _skip("streaming", "the completion failed")
        else:
            yield stream(subject, name, spent)


def _skip(first: str, why: str) -> Iterator[Finding]:
    for check in CHECKS[CHECKS.index(first) :]:
        yield Finding(check, State.SKIPPED, f"Not asked: {why}.")
