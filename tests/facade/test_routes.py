"""Which paths there are, and what the others get."""

from __future__ import annotations

import pytest
from tests.facade.rig import KEY, Rig, open_rig
from yarl import URL

HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/V1/chat/completions",
        "/v1/chat/completions;a",
        "/v1/../v1/models",
        "/v1/%2e%2e/admin",
        "/admin/v1/keys",
        "/metrics",
        "/livez",
        "/v1/models/",
        "/v1/%ff",
    ],
)
async def test_unknown_paths_are_404_in_our_form(rig: Rig, path: str) -> None:
    """No redirect, no guess: one envelope."""
    answer = await rig.http.get(URL(rig.facade.http_url + path, encoded=True), headers=HEADERS, allow_redirects=False)
    assert answer.status == 404
    assert (await answer.json())["error"]["code"] == "not_found"
    assert not rig.upstream.requests


async def test_a_wrong_method_names_the_right_ones(rig: Rig) -> None:
    """405 with Allow."""
    answer = await rig.http.get(f"{rig.facade.http_url}/v1/chat/completions", headers=HEADERS)
    assert answer.status == 405
    assert answer.headers["Allow"] == "OPTIONS, POST"
    assert (await answer.json())["error"]["code"] == "method_not_allowed"


async def test_an_encoded_path_is_the_same_path(rig: Rig) -> None:
    """Decoding once decides, for the route as for the credential."""
    answer = await rig.http.get(URL(f"{rig.facade.http_url}/v1/%6dodels", encoded=True))
    assert answer.status == 401


@pytest.mark.parametrize(
    ("path", "name"),
    [("a%2Fb", "a/b"), ("a/b", "a/b"), ("a%252Fb", "a%2Fb"), ("gpt:x@1", "gpt:x@1"), ("%E4%B8%96", "世")],
)
async def test_model_ids_are_decoded_once(rig: Rig, path: str, name: str) -> None:
    """Slashes and their escapes mean the same; an escape of an escape stays one."""
    answer = await rig.http.get(URL(f"{rig.facade.http_url}/v1/models/{path}", encoded=True), headers=HEADERS)
    assert (await answer.json())["id"] == name
    assert rig.upstream.requests[0].name == f"models/{name}"


async def test_head_and_options(rig: Rig) -> None:
    """HEAD is GET without a body; OPTIONS tells the methods without a credential."""
    answer = await rig.http.head(f"{rig.facade.http_url}/v1/models", headers=HEADERS)
    assert answer.status == 200
    assert int(answer.headers["Content-Length"]) > 0
    answer = await rig.http.options(f"{rig.facade.http_url}/v1/models")
    assert (answer.status, answer.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_cors_is_for_configured_origins_only() -> None:
    """The origin may read its answer, errors too; others get no word of it."""
    async with open_rig(cors_origins=("https://app.example",)) as rig:
        url = f"{rig.facade.http_url}/v1/models"
        mine = await rig.http.get(url, headers={"Origin": "https://app.example"})
        assert mine.status == 401
        assert mine.headers["Access-Control-Allow-Origin"] == "https://app.example"
        other = await rig.http.get(url, headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers
        preflight = await rig.http.options(
            url,
            headers={
                "Origin": "https://app.example",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization,x-stainless-os",
            },
        )
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Headers"] == "authorization,x-stainless-os"
