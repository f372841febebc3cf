"""The whole v1 surface, walked by its descriptors: rules that no lint knows, held for every element there is."""

import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path

import protovalidate
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
)
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.unknown_fields import UnknownFieldSet
from google.rpc import code_pb2  # type: ignore[import-untyped]  # the wheel has no types

import tokendance.gateway.v1
from tokendance.errors import table
from tokendance.gateway.v1 import access_pb2, errors_pb2

API = Path(__file__).resolve().parents[2] / "proto" / "api.binpb"
# The field of FieldOptions in which protovalidate's rules travel; the stubs know it only as bytes.
RULES = 1159
# Fields that a caller fills, that mean the same in every request, and that must be bounded in each.
BOUNDED = frozenset({"name", "parent", "subject", "page_token", "request_id", "reason"})


def _files() -> list[FileDescriptor]:
    modules = [
        module.name for module in pkgutil.iter_modules(tokendance.gateway.v1.__path__) if module.name.endswith("_pb2")
    ]
    return [importlib.import_module(f"tokendance.gateway.v1.{name}").DESCRIPTOR for name in modules]


FILES = _files()
MESSAGES: list[Descriptor] = [message for file in FILES for _, message in sorted(file.message_types_by_name.items())]
ENUMS: list[EnumDescriptor] = [enum for file in FILES for _, enum in sorted(file.enum_types_by_name.items())]
RPCS: list[MethodDescriptor] = [
    method for file in FILES for _, service in sorted(file.services_by_name.items()) for method in service.methods
]
every_rpc = pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: f"{rpc.containing_service.name}.{rpc.name}")


def _access(rpc: MethodDescriptor) -> access_pb2.Access:
    return rpc.GetOptions().Extensions[access_pb2.access]


def _has_rule(field: FieldDescriptor) -> bool:
    unknown = UnknownFieldSet(field.GetOptions())
    return any(unknown[index].field_number == RULES for index in range(len(unknown)))


def test_the_whole_surface_is_there() -> None:
    """Every service of the design exists, so that a client can be written against all of it."""
    assert {rpc.containing_service.name for rpc in RPCS} == {
        "AuditService",
        "CompletionsService",
        "FacadeService",
        "KeysService",
        "ModelsService",
        "NodesService",
        "OrganizationsService",
        "QuotaService",
        "StatusService",
    }


@every_rpc
def test_an_rpc_says_who_may_call_it(rpc: MethodDescriptor) -> None:
    """At least one kind of caller, each of them once, and nobody beside anybody."""
    allow = list(_access(rpc).allow)
    assert allow
    assert access_pb2.CALLER_KIND_UNSPECIFIED not in allow
    assert len(set(allow)) == len(allow)
    assert access_pb2.CALLER_KIND_ANYONE not in allow or len(allow) == 1


@every_rpc
def test_only_callers_with_a_key_or_without_any_meet_the_public_listener(rpc: MethodDescriptor) -> None:
    """What outside callers can reach, an API key can call, or anybody; all of model calls is among it."""
    access = _access(rpc)
    if access.public_listener:
        assert {access_pb2.CALLER_KIND_API_KEY, access_pb2.CALLER_KIND_ANYONE} & set(access.allow)
    if rpc.containing_service.name == "CompletionsService":
        assert access.public_listener
        assert list(access.allow) == [access_pb2.CALLER_KIND_API_KEY]


def test_the_public_listener_carries_nothing_else() -> None:
    """A further RPC for outside callers is a decision, made here."""
    public = {
        f"{rpc.containing_service.name}.{rpc.name}"
        for rpc in RPCS
        if _access(rpc).public_listener and rpc.containing_service.name != "CompletionsService"
    }
    assert public == {
        "ModelsService.ListModels",
        "ModelsService.GetModel",
        "QuotaService.GetQuota",
        "QuotaService.GetUsage",
        "QuotaService.ListUsageRecords",
        "QuotaService.GetRequest",
        "StatusService.GetStatus",
        "StatusService.WatchStatus",
        "StatusService.ListIncidents",
        "StatusService.GetIncident",
        "StatusService.ListMaintenances",
    }


@every_rpc
def test_the_facades_rpcs_are_for_the_facade_alone(rpc: MethodDescriptor) -> None:
    """Nobody else may call them, and the facade has no right of its own anywhere else."""
    allow = list(_access(rpc).allow)
    if rpc.containing_service.name == "FacadeService":
        assert allow == [access_pb2.CALLER_KIND_FACADE]
    else:
        assert access_pb2.CALLER_KIND_FACADE not in allow


def test_every_rpc_has_messages_of_its_own() -> None:
    """A request can grow a field without another RPC growing it too."""
    for rpc in RPCS:
        assert rpc.input_type.name == f"{rpc.name}Request"
        assert rpc.output_type.name == f"{rpc.name}Response"
    uses = Counter(message.full_name for rpc in RPCS for message in (rpc.input_type, rpc.output_type))
    assert {name for name, count in uses.items() if count > 1} == set()


def test_every_list_pages() -> None:
    """Whoever takes a page size takes a token and answers with the next one."""
    for rpc in RPCS:
        if rpc.name.startswith("List"):
            assert "page_size" in rpc.input_type.fields_by_name, rpc.full_name
        if "page_size" in rpc.input_type.fields_by_name:
            assert _has_rule(rpc.input_type.fields_by_name["page_size"]), rpc.full_name
            assert "page_token" in rpc.input_type.fields_by_name, rpc.full_name
            assert "next_page_token" in rpc.output_type.fields_by_name, rpc.full_name


def test_every_update_says_what_it_changes() -> None:
    """A field that the caller does not know of is never set to nothing by it."""
    for rpc in RPCS:
        if rpc.name.startswith("Update"):
            assert "update_mask" in rpc.input_type.fields_by_name, rpc.full_name


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.name)
def test_an_enums_zero_means_nothing_said(enum: EnumDescriptor) -> None:
    """Absence is never taken for a choice, and a value's name tells its enum."""
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper()
    assert enum.values_by_number[0].name == f"{prefix}_UNSPECIFIED"
    assert all(value.name.startswith(f"{prefix}_") for value in enum.values)


def test_strings_that_callers_fill_are_bounded() -> None:
    """A name, a token or a reason of any length is refused before anything looks at it."""
    unbounded = [
        field.full_name
        for rpc in RPCS
        for field in rpc.input_type.fields
        if field.name in BOUNDED and field.type == FieldDescriptor.TYPE_STRING and not _has_rule(field)
    ]
    assert unbounded == []


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_a_messages_rules_compile(message: Descriptor) -> None:
    """A rule that contradicts itself or its field's type would fail at the first call, so it fails here."""
    protovalidate.collect_violations(message_factory.GetMessageClass(message)())


@pytest.mark.parametrize(
    ("reason", "spec"), table(), ids=[errors_pb2.ErrorReason.Name(reason) for reason, _ in table()]
)
def test_a_row_of_the_error_table_is_whole(
    reason: errors_pb2.ErrorReason.ValueType, spec: errors_pb2.ErrorSpec
) -> None:
    """Every surface can show the reason, a person is told what to look at, and its code is its name."""
    assert spec.code == errors_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_").lower()
    assert spec.grpc_status in set(code_pb2.Code.values()) - {code_pb2.OK}
    assert 400 <= spec.http_status <= 599
    assert spec.type
    assert spec.family != errors_pb2.ERROR_FAMILY_UNSPECIFIED
    assert spec.check_first.endswith((".", "…"))
    surfaces = [override.surface for override in spec.overrides]
    assert len(set(surfaces)) == len(surfaces)
    assert errors_pb2.SURFACE_UNSPECIFIED not in surfaces
    assert all(override.http_status or override.type or override.code for override in spec.overrides), (
        "an override that changes nothing"
    )


def test_comments_name_errors_that_exist() -> None:
    """Whoever reads which errors an RPC has can look each of them up."""
    codes = {spec.code for _, spec in table()}
    named = Counter[str]()
    for file in FileDescriptorSet.FromString(API.read_bytes()).file:
        for location in file.source_code_info.location:
            for listed in re.findall(
                r"Errors (?:of every RPC here )?include: (.+?)\.\n", location.leading_comments, re.DOTALL
            ):
                # What stands in brackets, or after the code, says when it comes.
                items = re.sub(r"\([^)]*\)", "", listed).split(",")
                named.update(item.split()[0] for item in items)
    assert named
    assert set(named) - codes == set()
