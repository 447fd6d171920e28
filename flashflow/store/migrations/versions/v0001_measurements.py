"""Schema version 1: measurements, shares, reports, state."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "measurement",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("meas_id", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("nickname", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("started_utc_s", sa.Float, nullable=False),
        sa.Column("active_utc_s", sa.Float),
        sa.Column("ended_utc_s", sa.Float, nullable=False),
        sa.Column("duration_s", sa.Integer, nullable=False),
        sa.Column("background_ratio", sa.Float, nullable=False),
        sa.Column("result_bytes", sa.Integer),
        sa.Column("background_bytes", sa.Integer),
        sa.Column("accepted", sa.Boolean, nullable=False),
        sa.Column("failure_kind", sa.Text),
        sa.Column("failure_reason", sa.Text),
        sa.UniqueConstraint("meas_id", "started_utc_s"),
    )
    op.create_table(
        "share",
        _measurement_id(),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("allocated_bytes", sa.Integer, nullable=False),
        sa.Column("n_circs", sa.Integer, nullable=False),
    )
    op.create_table(
        "report",
        _measurement_id(),
        sa.Column("party", sa.Text, primary_key=True),
        sa.Column("second", sa.Integer, primary_key=True),
        sa.Column("sent_bytes", sa.Integer, nullable=False),
        sa.Column("recv_bytes", sa.Integer, nullable=False),
    )
    op.create_table(
        "state",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def _measurement_id() -> sa.Column[int]:
    return sa.Column(
        "measurement_id", sa.Integer, sa.ForeignKey("measurement.id", ondelete="CASCADE"), primary_key=True
    )
