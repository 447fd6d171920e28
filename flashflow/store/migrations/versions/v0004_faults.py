"""Schema version 4: who made a measurement fail, and whether the relay was caught forging."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns; of what failed before only the kind is known, so nothing of it is a forgery."""
    op.add_column("measurement", sa.Column("failure_fault", sa.Text))
    op.add_column("measurement", sa.Column("forged", sa.Boolean, nullable=False, server_default=sa.false()))
    for kind, fault in (("peer", "relay"), ("network", "network"), ("local", "ours"), ("bug", "ours")):
        op.execute(f"UPDATE measurement SET failure_fault = '{fault}' WHERE failure_kind = '{kind}'")
    op.create_index(
        "measurement_relay_fault",
        "measurement",
        ["fingerprint"],
        sqlite_where=sa.text("failure_fault = 'relay'"),
    )
