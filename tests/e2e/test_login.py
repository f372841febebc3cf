"""People and programs at the command line, over TCP and TLS: signed in at a certified OpenID provider."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import SERVER_NAMES, Authority
from tests.e2e.nodes import TOKENDANCE, Node, clean_environment, running
from tests.e2e.upstream import Upstream
from tests.identity_provider import AUDIENCE, SECRET, Browser, IdentityProvider, running_identity_provider

from tokendance import Client
from tokendance.gateway.v1 import organization_pb2
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance_cli.contexts import Context
from tokendance_cli.openid import Issuer, RefusedError

SCOPE = "openid offline_access gateway"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    """The provider, in a process of its own."""
    with running_identity_provider(tmp_path_factory.mktemp("provider")) as running_one:
        yield running_one


@dataclass(frozen=True)
class Office:
    """A node whose gRPC listener speaks TLS, the authority that vouches for it, and who signs people in."""

    node: Node
    ca: Path
    issuer: str

    def operator(self) -> Client:
        """The node's own operator."""
        return Client(f"unix:{self.node.data_dir / 'admin.sock'}", api_key="")

    def invite(self, **values: Any) -> str:
        """Make a member of the only organization; return its name."""
        with self.operator() as client:
            page = client.stubs.organizations.ListOrganizations(pb.ListOrganizationsRequest())
            member = organization_pb2.Member(roles=[organization_pb2.MEMBER_ROLE_AUDITOR], **values)
            request = pb.CreateMemberRequest(parent=page.organizations[0].name, member=member)
            return client.stubs.organizations.CreateMember(request).member.name


@pytest.fixture(scope="module")
def office(
    provider: IdentityProvider, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Office]:
    """A node that takes the tokens of the provider."""
    folder = tmp_path_factory.mktemp("office")
    authority = Authority()
    files = authority.sign(SERVER_NAMES).write(folder, "server", authority.certificate)
    settings = {
        "SERVER__TLS__CERTIFICATE": str(files.certificate),
        "SERVER__TLS__KEY": str(files.key),
        "SERVER__IDENTITY__ISSUER": provider.issuer,
        "SERVER__IDENTITY__AUDIENCE": AUDIENCE,
        "SERVER__IDENTITY__GROUPS": json.dumps([{"value": "gateway-admins", "role": "platform_admin"}]),
        "SERVER__IDENTITY__SUBJECTS": json.dumps([{"subject": "ci", "role": "platform_admin"}]),
    }
    with running("one", folder, upstream.base_url, ["sim"], settings=settings) as node:
        yield Office(node, folder / "server-ca.pem", provider.issuer)
        assert "eyJ" not in node.text


class Desk:
    """One user's machine: their configuration, and the commands that they run."""

    def __init__(self, office: Office, folder: Path) -> None:
        self.office = office
        self.folder = folder

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [TOKENDANCE, *arguments],
            env=self._environment(environment),
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def good(self, *arguments: str, **environment: str) -> Any:
        """Run a command that must go well; return the JSON that it prints."""
        done = self.run("--format", "json", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def set_context(self, name: str = "work", *more: str) -> None:
        """Make a context and use it."""
        done = self.run(
            *("context", "set", name, "--server", self.office.node.grpc, "--ca", str(self.office.ca), "--use"),
            *("--issuer", self.office.issuer, "--client-id", "tokendance-cli", "--audience", AUDIENCE),
            *("--scope", SCOPE, *more),
        )
        assert done.returncode == 0, done.stderr

    def login(self, who: str, *more: str) -> str:
        """Sign in, with a browser that finds its way by the address that the command prints; return its words."""
        command: list[str | Path] = [TOKENDANCE, "login", *(more or ("--no-browser",))]
        with subprocess.Popen(
            command, env=self._environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            said, url = "", None
            while url is None:
                line = process.stderr.readline()
                assert line, said
                said += line
                url = re.search(r"https?://\S+user_code=[\w-]+|http://\S+/auth\S+", line)
            _, page = Browser(who).sign_in(url[0])
            out, err = process.communicate(timeout=20)
        assert "code=" not in page
        assert process.returncode == 0, said + err
        return out

    def kept(self) -> list[Path]:
        """Every file of the configuration."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        return clean_environment(XDG_CONFIG_HOME=str(self.folder / "config"), HOME=str(self.folder), **more)


@pytest.fixture
def desk(office: Office, tmp_path: Path) -> Desk:
    """A machine whose user has set a context."""
    made = Desk(office, tmp_path)
    made.set_context()
    return made


def test_a_browser_signs_an_administrator_in_until_they_sign_out(desk: Desk) -> None:
    """What is kept is for its owner's eyes; nothing of it is left afterwards, and the next command says what to do."""
    assert "Signed in to" in desk.login("ada")
    caller = desk.good("whoami")
    assert (caller["name"], caller["kinds"]) == ("identities/ada", ["CALLER_KIND_PLATFORM_ADMIN"])
    assert caller["sign_in_time"] < caller["expire_time"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in desk.kept() if "config" in str(path))
    (file,) = desk.folder.rglob("work.json")
    refresh_token = json.loads(file.read_text())["refresh_token"]
    assert desk.run("logout").returncode == 0
    assert not any(refresh_token in path.read_text() for path in desk.kept())
    context = Context("work", "127.0.0.1:1", issuer=desk.office.issuer, client_id="tokendance-cli")
    with pytest.raises(RefusedError, match="invalid_grant"):
        Issuer(context).refresh(refresh_token)
    refused = desk.run("whoami")
    assert refused.returncode == 1
    assert "tokendance login" in refused.stderr


COMMANDS = (
    ("organizations", "list"),
    ("teams", "list"),
    ("members", "list"),
    ("keys", "list"),
    ("audit", "list"),
    ("providers", "list"),
)


def test_administration_works_over_tcp(desk: Desk, provider: IdentityProvider) -> None:
    """As over the node's own socket; the environment's token will do, too."""
    token = provider.token("ci")
    for command in COMMANDS:
        assert isinstance(desk.good(*command, TOKENDANCE_ID_TOKEN=token), list)
    declared = desk.folder / "gateway.yaml"
    declared.write_text("providers:\n  - name: over-tcp\n    kind: demo\n")
    done = desk.run("apply", "-f", str(declared), "--yes", TOKENDANCE_ID_TOKEN=token)
    assert done.returncode == 0, done.stderr
    # A context may be left out where the environment says where the gateway is; a data directory wins over both.
    socket = {"TOKENDANCE_CONTEXT": "", "TOKENDANCE_ID_TOKEN": ""}
    own = desk.good("--data-dir", str(desk.office.node.data_dir), "whoami", **socket)
    assert own["name"] == "local-operator"


def test_a_code_signs_somebody_in_on_another_device(desk: Desk) -> None:
    """No browser and no port are needed here."""
    assert "Signed in to" in desk.login("ada", "--device")
    assert desk.good("whoami")["name"] == "identities/ada"


def test_an_invited_address_signs_a_member_in_until_they_are_suspended(desk: Desk) -> None:
    """Under the member's own name, with its roles; the refusal comes within a second and says why."""
    member = desk.office.invite(email="Mia@example.com")
    desk.login("mia")
    caller = desk.good("whoami")
    assert (caller["name"], caller["kinds"]) == (member, ["CALLER_KIND_AUDITOR"])
    (told,) = caller["memberships"]
    assert told["state"] == "MEMBER_STATE_ACTIVE"
    token = json.loads(next(desk.folder.rglob("work.json")).read_text())["access_token"]
    credentials = _credentials(desk.office.ca)
    with (
        desk.office.operator() as operator,
        Client(desk.office.node.grpc, api_key=token, credentials=credentials) as mia,
    ):
        mia.stubs.organizations.GetCaller(pb.GetCallerRequest())
        operator.stubs.organizations.SuspendMember(pb.SuspendMemberRequest(name=member, reason="test"))
        began = time.monotonic()
        while _code(mia) == "ok":
            assert time.monotonic() - began < 1
            time.sleep(0.01)
        assert _code(mia) == "permission_denied"
        operator.stubs.organizations.ResumeMember(pb.ResumeMemberRequest(name=member))
        until = time.monotonic() + 1
        while _code(mia) != "ok":
            assert time.monotonic() < until
            time.sleep(0.01)
        operator.stubs.organizations.DeleteMember(pb.DeleteMemberRequest(name=member, reason="test"))
        until = time.monotonic() + 1
        while _code(mia) == "ok":
            assert time.monotonic() < until
            time.sleep(0.01)
    refused = desk.run("keys", "list")
    assert refused.returncode == 1
    assert "no longer a member" in refused.stderr


def test_who_was_never_invited_may_do_nothing(desk: Desk) -> None:
    """The sign-in itself is good."""
    desk.login("eve")
    refused = desk.run("keys", "list")
    assert refused.returncode == 1
    assert "permission_denied" in refused.stderr


def test_a_sign_in_is_renewed_once_by_many_commands(desk: Desk, provider: IdentityProvider) -> None:
    """The token has ended; a refresh token that is used twice would end the session."""
    desk.set_context("work", "--audience", f"{AUDIENCE}/short")
    desk.login("ada")
    (file,) = desk.folder.rglob("work.json")
    before = json.loads(file.read_text())
    # A token that short is renewed before every use; the node refuses it, because it is for somebody else.
    many = [
        subprocess.Popen([TOKENDANCE, "whoami"], env=desk._environment({}), stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for one in many:
        assert "another service" in one.communicate(timeout=30)[1]
    after = json.loads(file.read_text())
    assert after["access_token"] != before["access_token"]
    assert after["refresh_token"] != before["refresh_token"]


@pytest.mark.parametrize("way", ["environment", "login", "standard input"])
def test_a_program_brings_its_own_secret(desk: Desk, way: str) -> None:
    """Each of its subjects has a role by the settings of the node; the secret is kept nowhere."""
    desk.set_context("work", "--client-id", "ci", "--scope", "gateway")
    environment = {"TOKENDANCE_ID_CLIENT_ID": "ci", "TOKENDANCE_ID_CLIENT_SECRET": SECRET}
    if way == "environment":
        assert desk.good("whoami", **environment)["name"] == "identities/ci"
    elif way == "login":
        assert desk.run("login", "--client-credentials", **environment).returncode == 0
    else:
        done = desk.run("login", "--client-credentials", stdin=f"{SECRET}\n")
        assert done.returncode == 0, done.stderr
    assert desk.good("organizations", "list", **(environment if way == "environment" else {}))
    assert not any(SECRET in path.read_text() for path in desk.kept())


def test_a_wrong_secret_is_told(desk: Desk) -> None:
    """In the provider's own word, and without the secret."""
    desk.set_context("work", "--client-id", "ci")
    refused = desk.run("whoami", TOKENDANCE_ID_CLIENT_SECRET="wrong-canary")
    assert refused.returncode == 1
    assert "invalid_client" in refused.stderr
    assert "canary" not in refused.stderr


def test_a_gateway_that_nobody_vouches_for_gets_no_token(desk: Desk, tmp_path: Path) -> None:
    """The certificate is checked before anything is sent."""
    other = tmp_path / "other-ca.pem"
    other.write_bytes(Authority().certificate)
    desk.login("ada")
    desk.set_context("work", "--ca", str(other))
    refused = desk.run("whoami")
    assert refused.returncode == 3
    assert "cannot be reached" in refused.stderr


def _credentials(ca: Path) -> Any:
    import grpc

    return grpc.ssl_channel_credentials(ca.read_bytes())


def _code(client: Client) -> str:
    from tokendance import GatewayError

    try:
        client.stubs.organizations.GetCaller(pb.GetCallerRequest())
    except GatewayError as error:
        return error.code
    return "ok"
