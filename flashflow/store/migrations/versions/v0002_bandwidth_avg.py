"""Schema version 2: the descriptor's bandwidth-avg, which caps what is published; indexes for the v3bw file."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column, unknown for what was measured before, and the indexes."""
    op.add_column("measurement", sa.Column("bandwidth_avg_bytes", sa.Integer))
    op.create_index("measurement_by_relay", "measurement", ["fingerprint", "ended_utc_s"])
    op.create_index("measurement_by_end", "measurement", ["ended_utc_s"])
