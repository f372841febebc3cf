"""Both clients over TLS: they talk to whom they asked for, and to nobody else."""

import ssl
from pathlib import Path

from tests.certificates import SERVER_NAMES, Authority
from tests.server.providers.byte_servers import HEAD, LOOPBACK, WHOLE, answering, ask, code, serving

from tokendance_server.providers.transport import Client, Transport, open_transport


async def test_a_name_in_the_certificate_must_be_the_hosts(upstream_client: Client, tmp_path: Path) -> None:
    """One that is good is talked to, by the name that was asked for; strangers, other names and old ones are not."""
    authority, stranger = Authority(), Authority()
    ours = ssl.create_default_context(cadata=authority.certificate.decode())
    asked: list[str | None] = []
    for name, made, expected in (
        ("good", authority.sign(SERVER_NAMES), ""),
        ("stranger", stranger.sign(SERVER_NAMES), "provider_unavailable"),
        ("other", authority.sign(SERVER_NAMES[1:]), "provider_unavailable"),
    ):
        files = made.write(tmp_path, name)
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(files.certificate, files.key)
        theirs.sni_callback = lambda _, server_name, __: asked.append(server_name)
        answers = [[HEAD + WHOLE["chunked"]], [HEAD + WHOLE["length"]]]
        seen: list[int] = []
        transport = open_transport(upstream_client, LOOPBACK, tls=ours)
        async with serving(answering(*answers, seen=seen), theirs) as address:
            url = address.replace("127.0.0.1", "localhost")
            if expected:
                assert await code(ask(transport, url)) == expected
                assert seen == []
            else:
                assert [await ask(transport, url) for _ in answers] == [b"hello world"] * 2
                assert seen == [1, 1]
        await transport.close()
    assert asked == ["localhost"] * 3


async def test_what_the_system_does_not_trust_is_not_talked_to(transport: Transport, tmp_path: Path) -> None:
    """Where nothing else is said."""
    files = Authority().sign(SERVER_NAMES).write(tmp_path, "unknown")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(files.certificate, files.key)
    async with serving(answering([b""]), theirs) as url:
        assert await code(ask(transport, url)) == "provider_unavailable"
