"""The Models servicer: decode, one call of the domain, encode."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance.gateway.v1 import models_service_pb2_grpc as pb_grpc
from tokendance_server.domain.catalogue.editor import CatalogueEditor
from tokendance_server.domain.catalogue.in_force import Catalogue
from tokendance_server.domain.catalogue.models import Model
from tokendance_server.domain.prices.price import Price
from tokendance_server.domain.upstream import UpstreamCall
from tokendance_server.services.call import call_of
from tokendance_server.services.catalogue_messages import (
    model_changes,
    model_config_message,
    model_id,
    model_id_of,
    model_message,
    new_model,
    new_provider,
    provider_changes,
    provider_id,
    provider_message,
)
from tokendance_server.services.origins import origin_of
from tokendance_server.services.price_messages import price_message

Context = grpc.aio.ServicerContext[Any, Any]
Thing = TypeVar("Thing")
_PAGE_SIZE = 1000
_ADMIN_PAGE_SIZE = 100


class ModelsService(pb_grpc.ModelsServiceServicer):
    """Serves the public view of the catalogue in force, and the administrators' view of what is kept.

    `prices` tells the published prices of a model by its id.
    """

    def __init__(self, catalogue: Catalogue, editor: CatalogueEditor, prices: Callable[[str], Sequence[Price]]) -> None:
        self._catalogue = catalogue
        self._editor = editor
        self._prices = prices

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        models = self._catalogue.serving.catalog.visible_to(call_of(context).identity)
        page, token = _page(models, lambda model: model.id, request.page_token, request.page_size or _PAGE_SIZE)
        return pb.ListModelsResponse(models=map(self._view, page), next_page_token=token)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        model = self._catalogue.serving.catalog.find(model_id(request.name), call_of(context).identity)
        return pb.GetModelResponse(model=self._view(model))

    def _view(self, model: Model) -> pb.Model:
        view = model_message(model)
        view.prices.extend(map(price_message, self._prices(model.id)))
        return view

    async def ListModelConfigs(
        self, request: pb.ListModelConfigsRequest, context: Context
    ) -> pb.ListModelConfigsResponse:
        entries, version = await self._editor.models()
        size = request.page_size or _ADMIN_PAGE_SIZE
        page, token = _page(entries, lambda entry: entry.name, request.page_token, size)
        return pb.ListModelConfigsResponse(
            model_configs=map(model_config_message, page), next_page_token=token, catalog_version=version
        )

    async def CreateModel(self, request: pb.CreateModelRequest, context: Context) -> pb.CreateModelResponse:
        name, spec = model_id_of(request.model_config), new_model(request.model_config)
        call = call_of(context)
        entry = await self._editor.create_model(call.identity, name, spec, request.request_id, origin=origin_of(call))
        return pb.CreateModelResponse(model_config=model_config_message(entry))

    async def UpdateModel(self, request: pb.UpdateModelRequest, context: Context) -> pb.UpdateModelResponse:
        wanted = request.model_config
        changes = model_changes(wanted, request.update_mask.paths)
        call = call_of(context)
        entry = await self._editor.update_model(
            call.identity, model_id_of(wanted), changes, wanted.etag, origin=origin_of(call)
        )
        return pb.UpdateModelResponse(model_config=model_config_message(entry))

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Context) -> pb.DeleteModelResponse:
        call = call_of(context)
        await self._editor.delete_model(call.identity, model_id(request.name), request.etag, origin=origin_of(call))
        return pb.DeleteModelResponse()

    async def ListProviders(self, request: pb.ListProvidersRequest, context: Context) -> pb.ListProvidersResponse:
        entries = await self._editor.providers()
        size = request.page_size or _ADMIN_PAGE_SIZE
        page, token = _page(entries, lambda entry: entry.name, request.page_token, size)
        return pb.ListProvidersResponse(providers=map(provider_message, page), next_page_token=token)

    async def GetProvider(self, request: pb.GetProviderRequest, context: Context) -> pb.GetProviderResponse:
        entry = await self._editor.provider(provider_id(request.name))
        return pb.GetProviderResponse(provider=provider_message(entry))

    async def CreateProvider(self, request: pb.CreateProviderRequest, context: Context) -> pb.CreateProviderResponse:
        name, spec = provider_id(request.provider.name), new_provider(request.provider)
        call = call_of(context)
        entry = await self._editor.create_provider(
            call.identity,
            name,
            spec,
            request.request_id,
            credential=request.provider.credential,
            origin=origin_of(call),
            validate_only=request.validate_only,
        )
        return pb.CreateProviderResponse(provider=provider_message(entry))

    async def UpdateProvider(self, request: pb.UpdateProviderRequest, context: Context) -> pb.UpdateProviderResponse:
        wanted = request.provider
        changes = provider_changes(wanted, request.update_mask.paths)
        call = call_of(context)
        entry = await self._editor.update_provider(
            call.identity,
            provider_id(wanted.name),
            changes,
            wanted.etag,
            origin=origin_of(call),
            validate_only=request.validate_only,
        )
        return pb.UpdateProviderResponse(provider=provider_message(entry))

    async def DeleteProvider(self, request: pb.DeleteProviderRequest, context: Context) -> pb.DeleteProviderResponse:
        call = call_of(context)
        await self._editor.delete_provider(
            call.identity, provider_id(request.name), request.etag, origin=origin_of(call)
        )
        return pb.DeleteProviderResponse()

    async def DiscoverModels(self, request: pb.DiscoverModelsRequest, context: Context) -> pb.DiscoverModelsResponse:
        call = call_of(context)
        upstream = self._catalogue.upstream_of(provider_id(request.provider))
        asked = UpstreamCall(model="", deadline=call.deadline, request_id=call.request_id)
        return pb.DiscoverModelsResponse(upstream_models=await upstream.discover(asked))


def _page(things: Sequence[Thing], place: Callable[[Thing], str], token: str, size: int) -> tuple[list[Thing], str]:
    """Return a page of things that are in the order of their places, and the token of the next page, or none."""
    after = _decode_token(token)
    rest = [thing for thing in things if place(thing) > after]
    page = rest[:size]
    return page, _encode_token(place(page[-1])) if len(page) < len(rest) else ""


def _encode_token(last_id: str) -> str:
    return base64.urlsafe_b64encode(last_id.encode()).decode()


def _decode_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            "The page_token is not one of this gateway; start again without it.",
            param="page_token",
            origin="caller",
        ) from exc
