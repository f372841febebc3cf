"""Where the gateway may connect to: every spelling of an address that it must not reach, and what an operator opens."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError, check_path
from tokendance_server.domain.keys.networks import parse_network

STRICT = EgressPolicy()
EMBEDDED = EgressPolicy(allow_loopback=True)

LOOPBACK_FORMS = [
    "127.0.0.1", "127.0.0.2", "127.255.255.254", "127.1", "127.0.1", "127.0x1", "2130706433", "0x7f000001",
    "0X7F000001", "017700000001", "00000000017700000001", "0177.0.0.1", "0177.0.0.01", "0x7f.0.0.1", "0x7f.1",
    "0x7f.0x0.0x0.0x1", "127.0.0.01", "127.000.000.001", "0300.0250.0.1", "4294967295", "127.0.0.1.", "127.1.",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[::FFFF:7F00:0001]",
    "[0:0:0:0:0:ffff:7f00:1]", "[::7f00:1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[::1%25lo]", "[::1%lo]",
    "[::ffff:127.1]", "localhost", "LOCALHOST", "localhost.", "api.localhost", "localhost.localdomain",
    "ip6-localhost", "%31%32%37.0.0.1", "127%2e0%2e0%2e1", "127.0.0.1%00.example.com", "%6cocalhost",
    "\uff11\uff12\uff17.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "ⓛocalhost", "localhost\u00ad", "lo\u200bcalhost",
    "127.0.0.1\u3002",
]  # fmt: skip
PRIVATE_FORMS = [
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "100.64.0.1",
    "100.127.255.254", "198.18.0.1", "198.19.255.255", "167772161", "0xa000001", "012.0.0.1", "10.1", "10.0.1",
    "0xc0a80001", "192.168.1", "[::ffff:10.0.0.1]", "[::ffff:a00:1]", "[::ffff:c0a8:1]", "[::10.0.0.1]",
    "[fc00::1]", "[fd00::1]", "[fdff:ffff::1]", "[FD12:3456:789A::1]", "[fec0::1]", "[feff::1]",
]  # fmt: skip
LINK_LOCAL_AND_METADATA_FORMS = [
    "169.254.0.1", "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.255.255", "2852039166", "0xa9fea9fe",
    "0251.0376.0251.0376", "169.254.43518", "169.16689662", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]",
    "[::a9fe:a9fe]", "[fe80::1]", "[febf::1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[fd00:ec2::254]",
    "[fd00:0ec2:0:0:0:0:0:254]", "[fd00:ec2::23]", "[fd20:ce::254]", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "metadata.google.internal", "METADATA.goog", "instance-data.ec2.internal",
]  # fmt: skip
TRANSLATED_FORMS = [
    "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::10.0.0.1]", "[64:ff9b::8.8.8.8]",
    "[64:ff9b:1::7f00:1]", "[64:ff9b:1:ffff::1]", "[2002:7f00:1::]", "[2002:7f00:1::1]", "[2002:a9fe:a9fe::1]",
    "[2002:c0a8:1::1]", "[2002:808:808::1]", "[2001::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[2001:0000::]",
    "[2606:4700::5efe:7f00:1]", "[2606:4700::200:5efe:10.0.0.1]", "192.88.99.1",
]  # fmt: skip
OTHER_FORMS = [
    "0.0.0.0", "0", "0.1.2.3", "0x0", "00", "0.0", "[::]", "[0:0:0:0:0:0:0:0]", "[::ffff:0.0.0.0]", "[::ffff:0:0]",
    "192.0.0.1", "192.0.0.170", "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "0xffffffff", "[ff02::1]", "[ff05::2]", "[2001:db8::1]", "[3fff::1]", "[100::1]",
    "[2001:2::1]", "[2001:10::1]", "[5f00::1]", "[4000::1]", "[::ffff:8.8.8.8]", "[::8.8.8.8]", "[v1.a]", "[]",
    "[::1", "::1", "[1::2::3]", "1.2.3.4.5", "256.1.1.1", "8.8.8.8.", "8.8.8", "08.8.8.8", "134744072", "example.1",
    "example.0x7f", "example.com.", "example..com", ".example.com", "-a.example", "a-.example", "", ".", "a" * 64,
    ("a" * 60 + ".") * 5 + "a",
]  # fmt: skip
URL_FORMS = [
    "file:///etc/passwd", "unix:///var/run/docker.sock", "http+unix://%2Fvar%2Frun%2Fdocker.sock/x", "ftp://example.com",
    "gopher://example.com:70/_x", "dict://example.com", "data:text/plain,x", "javascript:alert(1)", "ws://example.com",
    "//example.com", "example.com", "http:example.com", "http:/example.com", "http:///example.com", "http://", "",
    "https:\\\\example.com", " http://example.com", "http://example.com ", "HTTP://example.com", "httpss://example.com",
    "http://user@example.com", "http://user:word@example.com", "http://@example.com", "http://:@example.com",
    "http://example.com@127.0.0.1", "http://127.0.0.1@example.com", "http://127.0.0.1\\@example.com",
    "http://example.com\\@127.0.0.1", "http://example.com\\.evil.example", "http://127.0.0.1#@example.com",
    "http://example.com#@127.0.0.1/", "http://example.com/#", "http://example.com/a#b", "http://127.0.0.1;@example.com",
    "http://example.com?@127.0.0.1\\", "http://example.com:80@127.0.0.1", "http://example.com,127.0.0.1",
    "http://exa mple.com", "http://example.com\t", "http://example.com\r\nHost: x", "http://example.com/\r\nX: y",
    "http://example.com/%0d%0aX:%20y", "http://example.com/%00", "http://example.com/a?b=%0a", "http://example.com/ x",
    "http://example.com/\x7f", "http://exam\x00ple.com", "http://\n127.0.0.1", "http://exam\nple.com",
    "http://example.com/\\..\\x", "http://example.com/../x", "http://example.com/v1/..", "http://example.com/./x",
    "http://example.com/%2e%2e/x", "http://example.com/%2E./x", "http://example.com/a%2f..%2fx",
    "http://example.com/a%5c..%5cx", "http://example.com/%", "http://example.com/%zz", "http://example.com/é",
    "http://example.com/<x>", 'http://example.com/"', "http://example.com/{x}", "http://example.com:", "http://a:b",
    "http://example.com:0", "http://example.com:65536", "http://example.com:99999", "http://example.com:-1",
    "http://example.com:+80", "http://example.com:080", "http://example.com:8 0", "http://example.com:\uff18\uff10",
    "http://example.com:80:80", "http://example.com::80", "http://exämple.com", "http://ex\u0430mple.com",
    "http://example\u2024com", "http://example.com\uff0f@127.0.0.1", "http://example.com\u2044x",
    "http://\u2488\u2488\u2488\u2488", "http://[::1]x", "http://[::1].example.com", "http://x[::1]", "http://[[::1]]",
    "http://example.com/" + "a" * 2048,
]  # fmt: skip
HOST_FORMS = [*LOOPBACK_FORMS, *PRIVATE_FORMS, *LINK_LOCAL_AND_METADATA_FORMS, *TRANSLATED_FORMS, *OTHER_FORMS]

CLOSED_NETWORKS = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
]  # fmt: skip


def _opened(*networks: str, allow_loopback: bool = False) -> EgressPolicy:
    return EgressPolicy(allow_loopback=allow_loopback, allowed_private=map(parse_network, networks))


@pytest.mark.parametrize("host", HOST_FORMS)
@pytest.mark.parametrize("template", ["http://{}", "https://{}:8443/v1"])
def test_no_spelling_of_a_host_that_is_not_public_passes(host: str, template: str) -> None:
    """With and without a port and a path."""
    with pytest.raises(EgressRefusedError):
        STRICT.check_url(template.format(host))


@pytest.mark.parametrize("url", URL_FORMS)
def test_no_url_of_two_readings_passes(url: str) -> None:
    """Schemes, userinfo, fragments, controls, escapes, ports and lengths that have no business there."""
    for policy in (STRICT, EMBEDDED):
        with pytest.raises(EgressRefusedError):
            policy.check_url(url)


@pytest.mark.parametrize(
    "host", sorted(set(LOOPBACK_FORMS) - {"127.0.0.1", "127.0.0.2", "127.255.255.254", "[::1]", "[0:0:0:0:0:0:0:1]",
    "[0000::0001]", "localhost", "LOCALHOST", "api.localhost", "localhost.localdomain", "ip6-localhost"})
)  # fmt: skip
def test_a_disguise_is_refused_even_where_loopback_is_open(host: str) -> None:
    """What hides an address is never needed."""
    with pytest.raises(EgressRefusedError):
        EMBEDDED.check_url(f"http://{host}/v1")


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://api.openai.com",
        "https://API.OpenAI.com:443/",
        "https://xn--exmple-cua.example/v1/",
        "https://a_b.example-c.example/openai/deployments/a%2Fb?api-version=2024-10-21",
        "https://8.8.8.8:65535/v1",
        "https://[2606:4700:4700::1111]/v1",
        "http://vllm:8000/v1",
        "https://1password.example",
        "https://0x.example",
        "https://example.com?a=b/../c",
    ],
)
def test_public_addresses_and_names_pass(url: str) -> None:
    """What names lead to is asked on connect."""
    STRICT.check_url(url)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "[::1]", "api.localhost"])
def test_loopback_passes_where_it_is_open(host: str) -> None:
    """By its plain names and addresses."""
    EMBEDDED.check_url(f"http://{host}:11434/v1")


def test_open_loopback_opens_nothing_else() -> None:
    """The host's unspecified address and private networks stay closed."""
    for address in ("0.0.0.0", "::", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::7f00:1"):
        with pytest.raises(EgressRefusedError):
            EMBEDDED.check_address(address)


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.1.2.3", "192.168.0.1"),
        ("192.168.7.7/32", "192.168.7.7", "192.168.7.8"),
        ("100.64.0.0/10", "100.64.0.1", "10.0.0.1"),
        ("198.18.0.0/15", "198.18.0.9", "127.0.0.1"),
        ("127.0.0.2/32", "127.0.0.2", "127.0.0.1"),
        ("::1/128", "::1", "127.0.0.1"),
        ("fd12::/16", "fd12::1", "fd13::1"),
        ("64:ff9b::/96", "64:ff9b::808:808", "64:ff9b:1::808:808"),
    ],
)
def test_an_opened_network_passes_and_no_other(network: str, inside: str, outside: str) -> None:
    """Addresses and URLs alike."""
    policy = _opened(network)
    policy.check_address(inside)
    policy.check_url(f"http://[{inside}]/" if ":" in inside else f"http://{inside}/")
    with pytest.raises(EgressRefusedError):
        policy.check_address(outside)


@pytest.mark.parametrize("address", ["fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200"])
def test_metadata_services_stay_closed_within_opened_networks(address: str) -> None:
    """They hand out the machine's credentials; no upstream lives there."""
    with pytest.raises(EgressRefusedError, match="metadata service"):
        _opened("fc00::/7", "100.64.0.0/10").check_address(address)


@pytest.mark.parametrize("v4", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "224.0.0.1", "0.0.0.0"])
def test_opened_nat64_leads_to_public_addresses_only(v4: str) -> None:
    """Also where the network that is hidden in it is open: behind the translator it is another one."""
    with pytest.raises(EgressRefusedError):
        _opened("64:ff9b::/96", "10.0.0.0/8", allow_loopback=True).check_address(f"64:ff9b::{v4}")


@pytest.mark.parametrize(
    "network",
    ["0.0.0.0/0", "::/0", "8.0.0.0/8", "0.0.0.0/8", "169.254.0.0/16", "169.254.169.254/32", "10.0.0.0/7", "fe80::/10",
     "fc00::/6", "::/96", "::ffff:0:0/96", "2002::/16", "2001::/32", "224.0.0.0/4", "255.255.255.255/32"],
)  # fmt: skip
def test_what_is_no_private_network_cannot_be_opened(network: str) -> None:
    """The message lists what can."""
    with pytest.raises(ValueError, match=re.escape(f"{network} cannot be opened: only networks within 10.0.0.0/8, ")):
        _opened(network)


@pytest.mark.parametrize(
    ("address", "advice"), [("10.0.0.1", "allow_private"), ("127.0.0.1", "allow_loopback"), ("::1", "allow_loopback")]
)
def test_a_refusal_says_what_would_open_it(address: str, advice: str) -> None:
    """And which address it is: the message is the operator's."""
    with pytest.raises(EgressRefusedError, match=f"^{address} is .*{advice}"):
        STRICT.check_address(address)


@pytest.mark.parametrize(
    "address", ["", "example.com", "127.1", "0x7f.1", "8.8.8.8 ", "8.8.8.8:80", "[::1]", "2606::1%eth0"]
)
def test_what_is_no_plain_address_is_refused_on_connect(address: str) -> None:
    """A resolver that answers so is not to be trusted."""
    with pytest.raises(EgressRefusedError):
        EMBEDDED.check_address(address)


def _spellings(address: ipaddress.IPv4Address) -> dict[str, str]:
    """Every way that is known to write an IPv4 address into the host of a URL."""
    number = int(address)
    a, b, c, d = address.packed
    high, low = number >> 16, number & 0xFFFF
    inverted = number ^ 0xFFFFFFFF
    return {
        "dotted": str(address),
        "trailing dot": f"{address}.",
        "padded": f"{a:03}.{b:03}.{c:03}.{d:03}",
        "decimal": str(number),
        "hexadecimal": hex(number),
        "upper hexadecimal": f"0X{number:08X}",
        "octal": f"0{number:o}",
        "dotted hexadecimal": f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        "dotted octal": f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        "mixed": f"{a:#x}.0{b:o}.{c}.{d}",
        "short of three": f"{a}.{b}.{low}",
        "short of two": f"{a}.{number & 0xFFFFFF}",
        "escaped": "".join(f"%{ord(one):02x}" for one in str(address)),
        "escaped dots": str(address).replace(".", "%2e"),
        "wide digits": str(address).translate({ord("0") + n: 0xFF10 + n for n in range(10)}),
        "ideographic dots": str(address).replace(".", "\u3002"),
        "mapped": f"[::ffff:{address}]",
        "mapped hexadecimal": f"[::ffff:{high:x}:{low:x}]",
        "mapped in full": f"[0:0:0:0:0:FFFF:{high:X}:{low:X}]",
        "translated": f"[::ffff:0:{address}]",
        # ::0.0.0.1 is IPv6's own loopback, and ::0.0.0.0 no address at all: not a way to write an IPv4 address.
        "compatible": f"[::{address}]" if number > 1 else str(number),
        "NAT64": f"[64:ff9b::{address}]",
        "local NAT64": f"[64:ff9b:1::{high:x}:{low:x}]",
        "6to4": f"[2002:{high:x}:{low:x}::1]",
        "Teredo": f"[2001:0:4136:e378:8000:63bf:{inverted >> 16:x}:{inverted & 0xFFFF:x}]",
        "ISATAP": f"[2606:4700::5efe:{high:x}:{low:x}]",
        "userinfo": f"example.com@{address}",
    }


def _passing(policy: EgressPolicy, hosts: Mapping[str, str]) -> dict[str, str]:
    passing = {}
    for spelling, host in hosts.items():
        with suppress(EgressRefusedError):
            policy.check_url(f"http://{host}/v1")
            passing[spelling] = host
    return passing


_closed_v4 = st.sampled_from(CLOSED_NETWORKS).flatmap(lambda network: st.ip_addresses(network=network))


@given(address=_closed_v4)
def test_a_closed_address_is_refused_in_every_spelling(address: ipaddress.IPv4Address) -> None:
    """Whatever the address within the closed networks."""
    assert _passing(STRICT, _spellings(address)) == {}


@given(address=st.ip_addresses(v=4))
@example(address=ipaddress.IPv4Address("8.8.8.8"))
@example(address=ipaddress.IPv4Address("1.0.0.0"))
def test_any_ipv4_address_passes_in_its_dotted_form_or_not_at_all(address: ipaddress.IPv4Address) -> None:
    """Public ones too: a spelling that hides where it leads is not worth a judgement."""
    plain = str(address)
    hidden = {spelling: host for spelling, host in _spellings(address).items() if host != plain}
    assert _passing(EMBEDDED, hidden) == {}


@given(
    address=st.one_of(
        st.ip_addresses(v=4),
        st.ip_addresses(v=6),
        st.ip_addresses(network="2000::/3"),
        st.ip_addresses(network="2001::/16"),
        st.ip_addresses(network="::/64"),
    )
)
def test_no_address_passes_that_the_standard_library_calls_other_than_global(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Our own lists are never laxer than its."""
    try:
        STRICT.check_address(str(address))
    except EgressRefusedError:
        return
    assert address.is_global
    assert not address.is_multicast


@given(rest=st.text(alphabet="htp:/@\\.[]%#?;0123456789axf-_\uff11\u3002\r\n\t \x00", max_size=30))
@example(rest="a.0x/")
@example(rest="1.2.3.4:80/a")
@example(rest="[a::1]:1")
def test_whatever_passes_has_one_reading(rest: str) -> None:
    """Three parsers find the same host, and the C library takes no name for an address."""
    url = f"http://{rest}"
    try:
        EMBEDDED.check_url(url)
    except EgressRefusedError:
        return
    host = urlsplit(url).hostname
    assert host
    read = yarl.URL(url).raw_host or ""
    if ":" in host:
        assert ipaddress.ip_address(read) == ipaddress.ip_address(host)
        return
    assert read == host.lower()
    try:
        packed = socket.inet_aton(host)
    except OSError:
        return
    assert socket.inet_ntoa(packed) == host


@pytest.mark.parametrize(
    "path", ["", "/", "/v1/chat/completions", "/models/a%2Fb:generate?alt=sse", "/a..b/...", "?a=.."]
)
def test_plain_paths_pass(path: str) -> None:
    """With escapes and a query."""
    check_path(path)


@pytest.mark.parametrize(
    "path",
    ["/..", "/a/../b", "/%2e%2e/", "/.%2e", "/a%2F..", "/a%5C..%5Cb", "/./a", "/a\r\nb", "/%0a", "/a b", "/a#b", "/%",
     "/%4", "/é", "/a\\b", "/a?b=%0D", "/%00"],
)  # fmt: skip
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    """In any spelling."""
    with pytest.raises(EgressRefusedError):
        check_path(path)
