"""The references' data: what the protos say, and nothing that is only between the parts of the gateway."""

from __future__ import annotations

import json

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from dev.gen_reference import PRIVATE, ROOT, TARGET, main, render
from tokendance.errors import table

DOCUMENT = render(FileDescriptorSet.FromString((ROOT / "proto" / "api.binpb").read_bytes()))


def test_the_data_of_the_repository_are_up_to_date() -> None:
    """They are what the descriptors make."""
    assert json.loads(TARGET.read_text()) == DOCUMENT
    assert main(["--check"]) == 0


def test_every_code_is_in_one_family_with_its_comment() -> None:
    """The error table, whole."""
    rows = [row for family in DOCUMENT["errors"] for row in family["rows"]]
    assert sorted(row["code"] for row in rows) == sorted(spec.code for _, spec in table())
    assert [row["code"] for row in rows if not row["comment"] or not row["check_first"]] == []
    assert len(DOCUMENT["errors"]) == 6


def test_what_is_shown_has_comments_and_links_that_lead_somewhere() -> None:
    """Every element speaks for itself."""
    files = {file["name"]: file for file in DOCUMENT["files"]}
    assert not files.keys() & PRIVATE
    for file in files.values():
        assert file["comment"]
        for service in file["services"]:
            assert all(method["comment"] and method["callers"] for method in service["methods"])
        for message in file["messages"]:
            for field in message["fields"]:
                assert field["comment"], (file["name"], message["name"], field["name"])
                home = field["type"]["file"]
                if home:
                    told = (*files[home]["messages"], *files[home]["enums"])
                    assert field["type"]["name"] in {one["name"] for one in told}
        assert all(value["comment"] for enum in file["enums"] for value in enum["values"])


def test_parts_that_only_the_gateway_speaks_to_itself_are_not_shown() -> None:
    """Neither the facade's own service nor what it asserts of callers."""
    text = json.dumps(DOCUMENT)
    assert "FacadeService" not in text
    assert "/admin/v1" not in text
