"""The Models servicer: the public view of the catalogue."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, errors_pb2
from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance.gateway.v1 import models_service_pb2_grpc as pb_grpc
from tokendance_server.domain.catalog import EMBEDDINGS, Catalog, Model
from tokendance_server.services.call import call_of
from tokendance_server.services.unimplemented import refuse_rest

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE_SIZE = 1000
_CAPABILITIES = {
    name.removeprefix("MODEL_CAPABILITY_").lower(): number for name, number in pb.ModelCapability.items() if number
}


@refuse_rest(pb.DESCRIPTOR.services_by_name["ModelsService"])
class ModelsService(pb_grpc.ModelsServiceServicer):
    """Serves the public view of the catalogue in force. The administrator's view comes with its own RPCs."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """List the models that the caller may call."""
        models = self._catalog.visible_to(call_of(context).identity)
        after = _decode_token(request.page_token)
        rest = [model for model in models if model.id > after]
        page = rest[: request.page_size or _PAGE_SIZE]
        token = _encode_token(page[-1].id) if len(page) < len(rest) else ""
        return pb.ListModelsResponse(models=[to_proto(model) for model in page], next_page_token=token)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Return one model by name or alias."""
        model = self._catalog.find(request.name.removeprefix("models/"), call_of(context).identity)
        return pb.GetModelResponse(model=to_proto(model))


def to_proto(model: Model) -> pb.Model:
    """Return the public view of a model."""
    embeds_only = model.capabilities == (EMBEDDINGS,)
    view = pb.Model(
        name=f"models/{model.id}",
        id=model.id,
        aliases=model.aliases,
        display_name=model.display_name or model.id,
        description=model.description,
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        input_modalities=[completion_pb2.MODALITY_TEXT],
        output_modalities=[] if embeds_only else [completion_pb2.MODALITY_TEXT],
        capabilities=[_CAPABILITIES[capability] for capability in model.capabilities],
        supported_parameters=model.supported_parameters,
        availability_note=model.availability_note,
        owned_by=model.owned_by,
    )
    view.create_time.FromSeconds(model.created)
    return view


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
