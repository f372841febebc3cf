"""What organizations, teams and members have besides their names; policies, preferences, and repeated creations."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.String(40)
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the columns, with what nodes of the version before leave out, and make the tables."""
    for table in ("organizations", "teams", "members"):
        op.add_column(table, sa.Column("search", sa.String(), nullable=False, server_default=""))
        op.add_column(table, sa.Column("update_time", _INSTANT))
        op.add_column(table, sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
        _fill_search(table)
    for table in ("organizations", "teams"):
        op.add_column(table, sa.Column("labels", sa.JSON(), nullable=False, server_default=json.dumps({})))
    op.add_column("organizations", sa.Column("state", sa.String(20), nullable=False, server_default="active"))
    op.add_column("organizations", sa.Column("contact", sa.String(200), nullable=False, server_default=""))
    op.add_column("teams", sa.Column("description", sa.String(500), nullable=False, server_default=""))
    op.add_column("members", sa.Column("subject", sa.String(255), nullable=False, server_default=""))
    op.add_column("members", sa.Column("email", sa.String(320), nullable=False, server_default=""))
    op.add_column("members", sa.Column("folded_email", sa.String(), nullable=False, server_default=""))
    op.add_column("members", sa.Column("roles", sa.String(40), nullable=False, server_default="member"))
    op.add_column("members", sa.Column("state", sa.String(20), nullable=False, server_default="invited"))
    op.create_index("ix_members_organization_id_subject", "members", ["organization_id", "subject"])
    op.create_index("ix_members_organization_id_folded_email", "members", ["organization_id", "folded_email"])
    op.create_index("ix_teams_id", "teams", ["id"])
    op.create_index("ix_keys_organization_id_owner_id", "keys", ["organization_id", "owner_id"])
    op.create_index("ix_keys_organization_id_team_id", "keys", ["organization_id", "team_id"])
    _make_member_teams()
    op.create_table(
        "policies",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("update_time", _INSTANT),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", name="pk_policies"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_policies_organization_id"),
    )
    op.create_table(
        "preferences",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_preferences"),
    )
    op.create_table(
        "creates",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("made_id", _ID, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "kind", "request_id", name="pk_creates"),
    )


def _make_member_teams() -> None:
    op.create_table(
        "member_teams",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("member_id", _ID, nullable=False),
        sa.Column("team_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "member_id", "team_id", name="pk_member_teams"),
        sa.ForeignKeyConstraint(
            ["organization_id", "member_id"],
            ["members.organization_id", "members.id"],
            name="fk_member_teams_organization_id_member_id",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "team_id"],
            ["teams.organization_id", "teams.id"],
            name="fk_member_teams_organization_id_team_id",
        ),
    )
    op.create_index("ix_member_teams_organization_id_team_id", "member_teams", ["organization_id", "team_id"])


def _fill_search(name: str) -> None:
    # In Python, because the databases fold case each in its own way.
    table = sa.table(name, sa.column("id"), sa.column("display_name"), sa.column("search"))
    connection = op.get_bind()
    tail = "\n" if name == "members" else ""
    for row in connection.execute(sa.select(table.c.id, table.c.display_name)).all():
        filled = table.update().where(table.c.id == row.id).values(search=(row.display_name + tail).casefold())
        connection.execute(filled)
