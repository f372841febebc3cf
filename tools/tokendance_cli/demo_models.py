"""Models of a node that is filled to be looked at: names, windows and prices as public pages show them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from tokendance import Client, GatewayError
from tokendance.gateway.v1 import completion_pb2, errors_pb2, models_service_pb2, quota_service_pb2

PROVIDER = "demonstration"
SMALLEST = "demo-echo"
"""Built in where nothing else is declared, and declared here so that it stays."""


_THERE = (errors_pb2.ERROR_REASON_ALREADY_EXISTS, errors_pb2.ERROR_REASON_FAILED_PRECONDITION)


class DemoModel(NamedTuple):
    """A model, its alias, sizes in tokens, prices in micro-USD a million tokens, and after how many days it goes."""

    id: str
    alias: str
    title: str
    window: int
    answer: int
    prices: tuple[int, int]
    pictures: bool = False
    days_left: int = 0


MODELS = (
    DemoModel(SMALLEST, "", "Echo: repeats what it is told", 8_192, 4_096, (30, 150)),
    DemoModel("demo-swift", "swift", "Swift: short answers, soon", 128_000, 16_384, (250_000, 1_000_000)),
    DemoModel("demo-thorough", "thorough", "Thorough: long answers", 400_000, 64_000, (2_500_000, 10_000_000), True),
    DemoModel("demo-classic", "", "Classic: goes soon", 32_000, 4_096, (500_000, 1_500_000), days_left=60),
)


def declare(client: Client, now: datetime) -> None:
    """Make the provider, its models and their published prices; what is there already stays. Raises GatewayError."""
    stub = client.stubs.models
    provider = models_service_pb2.Provider(
        name=f"providers/{PROVIDER}", kind="demo", public_label="Built-in demonstration"
    )
    if not _made(lambda: stub.CreateProvider(models_service_pb2.CreateProviderRequest(provider=provider))):
        return
    for model in MODELS:
        config = models_service_pb2.ModelConfig(
            model=_public(model, now),
            visibility=models_service_pb2.MODEL_VISIBILITY_PUBLIC,
            routes=[models_service_pb2.Route(provider=f"providers/{PROVIDER}", upstream_model=SMALLEST, weight=1)],
        )
        request = models_service_pb2.CreateModelRequest(model_config=config)
        if _made(partial(stub.CreateModel, request)):
            _price(client, model)


def _public(model: DemoModel, now: datetime) -> models_service_pb2.Model:
    shown = models_service_pb2.Model(
        name=f"models/{model.id}",
        id=model.id,
        aliases=[model.alias] if model.alias else [],
        display_name=model.title,
        context_window=model.window,
        max_output_tokens=model.answer,
        input_modalities=[completion_pb2.MODALITY_TEXT],
        output_modalities=[completion_pb2.MODALITY_TEXT],
        availability_note="A demonstration: it repeats what you say.",
    )
    if model.pictures:
        shown.input_modalities.append(completion_pb2.MODALITY_IMAGE)
    if model.days_left:
        shown.deprecate_time.FromDatetime(now + timedelta(days=model.days_left))
        shown.successor = "demo-swift"
    return shown


def _price(client: Client, model: DemoModel) -> None:
    wanted = quota_service_pb2.PriceList(model=model.id, published=True)
    for kind, micros in zip(("input", "output"), model.prices, strict=True):
        wanted.prices.add(micros_per_million=micros)
        setattr(wanted.prices[-1], "class", kind)
    client.stubs.quota.SetPrices(quota_service_pb2.SetPricesRequest(price_list=wanted))


def _made(make: Callable[[], object]) -> bool:
    """Tell whether something was made; it is not where it is there already, or in the node's settings file."""
    try:
        make()
    except GatewayError as error:
        if error.reason in _THERE:
            return False
        raise
    return True
