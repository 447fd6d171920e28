"""Schema version 3: which results are all that the team could load the relay with, and the period's plan."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column, false for what was measured before, and the table."""
    op.add_column(
        "measurement", sa.Column("team_limited", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_table(
        "plan",
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("slot", sa.Integer),
        sa.Column("rate_bytes", sa.Integer, nullable=False),
        sa.Column("wanted_bytes", sa.Integer, nullable=False),
        sa.Column("group", sa.Integer),
        sa.Column("crew", sa.Integer, nullable=False),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("raised_bytes", sa.Integer, nullable=False),
    )
