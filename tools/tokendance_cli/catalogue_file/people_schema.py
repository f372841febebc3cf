"""What a gateway file may say of organizations: their teams, members, and the bounds inside which keys are granted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from tokendance_server.config import ModelName, Settings

DisplayName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$")]
Labels = Annotated[dict[str, str], Field(max_length=32)]
Days = Annotated[int, Field(ge=1, le=3650)]


class DeclaredTeam(Settings):
    """One entry of a team list."""

    display_name: DisplayName
    description: str = Field(default="", max_length=500)
    labels: Labels = Field(default_factory=dict)


class DeclaredMember(Settings):
    """One entry of a member list: known by an address, by what the identity provider calls it (`subject`), or both."""

    email: str = Field(default="", max_length=320)
    subject: str = Field(default="", max_length=255)
    display_name: str = Field(default="", max_length=100)
    roles: tuple[Literal["member", "admin", "auditor"], ...] = Field(default=("member",), min_length=1, max_length=8)
    teams: tuple[DisplayName, ...] = Field(default=(), max_length=100)

    @field_validator("email")
    @classmethod
    def _check_email(cls, value: str) -> str:
        if value and (value.count("@") != 1 or value != value.strip()):
            raise ValueError("must be an address, such as name@example.com")
        return value

    @field_validator("roles", "teams")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _check_whole(self) -> DeclaredMember:
        if not self.email and not self.subject:
            raise ValueError("email or subject is missing")
        return self

    @property
    def handle(self) -> str:
        """What the member is called in the file."""
        return self.email.casefold() or self.subject


class DeclaredLimit(Settings):
    """One limit of a quota ceiling."""

    metric: Literal["requests", "input_tokens", "output_tokens", "total_tokens", "cost_micros", "concurrent_requests"]
    window: Literal["minute", "hour", "day", "month", "total"] | None = None
    limit: int = Field(ge=0)
    model: str = Field(default="", max_length=256)


class DeclaredRule(Settings):
    """Which requests for keys are granted without asking anybody. What is left out does not bound them."""

    display_name: DisplayName
    teams: tuple[DisplayName, ...] = Field(default=(), max_length=100)
    models: tuple[ModelName, ...] = Field(default=(), max_length=1000)
    quota_ceiling: tuple[DeclaredLimit, ...] = Field(default=(), max_length=32)
    max_key_lifetime_days: Days | None = None
    max_keys_per_member: int | None = Field(default=None, ge=1)


class DeclaredPolicy(Settings):
    """How keys are granted, and what becomes of those whose owner goes."""

    self_approval: bool = False
    reveal_days: Annotated[int, Field(ge=1, le=30)] | None = None
    max_rotation_days: Days | None = None
    max_key_lifetime_days: Days | None = None
    orphaned_keys: Literal["suspend", "reassign", "revoke"] | None = None
    orphaned_keys_owner: str = Field(default="", max_length=320)
    excluded_route_tags: tuple[str, ...] = Field(default=(), max_length=100)
    issuance_rules: tuple[DeclaredRule, ...] = Field(default=(), max_length=50)

    @model_validator(mode="after")
    def _check_whole(self) -> DeclaredPolicy:
        if (self.orphaned_keys == "reassign") != bool(self.orphaned_keys_owner):
            raise ValueError("orphaned_keys_owner, a member's email or subject, belongs to orphaned_keys: reassign")
        return self


class DeclaredOrganization(Settings):
    """One entry of `organizations`. Its name in the file is its display name, which it keeps."""

    display_name: DisplayName
    contact: str = Field(default="", max_length=200)
    labels: Labels = Field(default_factory=dict)
    teams: tuple[DeclaredTeam, ...] = Field(default=(), max_length=1000)
    members: tuple[DeclaredMember, ...] = Field(default=(), max_length=10_000)
    policy: DeclaredPolicy | None = None

    @field_validator("display_name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if " / " in value:
            raise ValueError("must not hold ' / ', which parts it from its teams and members here")
        return value
