"""The tables as they are in the newest schema version; `migrations/` tells how they came to be."""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

VERSION = 4
"""The newest schema version: the number of the last file in migrations/versions."""

metadata = MetaData()

measurement = Table(
    "measurement",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("meas_id", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("nickname", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("started_utc_s", Float, nullable=False),
    Column("active_utc_s", Float),
    Column("ended_utc_s", Float, nullable=False),
    Column("duration_s", Integer, nullable=False),
    Column("background_ratio", Float, nullable=False),
    Column("result_bytes", Integer),
    Column("background_bytes", Integer),
    Column("accepted", Boolean, nullable=False),
    Column("failure_kind", Text),
    Column("failure_reason", Text),
    Column("bandwidth_avg_bytes", Integer),
    Column("team_limited", Boolean, nullable=False, server_default=false()),
    Column("failure_fault", Text),
    Column("forged", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("meas_id", "started_utc_s"),
    Index("measurement_by_relay", "fingerprint", "ended_utc_s"),
    Index("measurement_by_end", "ended_utc_s"),
    Index("measurement_relay_fault", "fingerprint", sqlite_where=text("failure_fault = 'relay'")),
)
"""One row for each measurement that ended."""

share = Table(
    "share",
    metadata,
    Column("measurement_id", Integer, ForeignKey("measurement.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("allocated_bytes", Integer, nullable=False),
    Column("n_circs", Integer, nullable=False),
)
"""One row for each measurer of a measurement."""

report = Table(
    "report",
    metadata,
    Column("measurement_id", Integer, ForeignKey("measurement.id", ondelete="CASCADE"), primary_key=True),
    Column("party", Text, primary_key=True),
    Column("second", Integer, primary_key=True),
    Column("sent_bytes", Integer, nullable=False),
    Column("recv_bytes", Integer, nullable=False),
)
"""One row for each second that a party reported; the relay's background has the empty name as party."""

plan = Table(
    "plan",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("slot", Integer),
    Column("rate_bytes", Integer, nullable=False),
    Column("wanted_bytes", Integer, nullable=False),
    Column("group", Integer),
    Column("crew", Integer, nullable=False),
    Column("runs", Integer, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("raised_bytes", Integer, nullable=False),
)
"""One row for each relay of which something is planned or known in the current period (PlanRow)."""

state = Table(
    "state",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Small things the coordinator keeps over a restart, as JSON."""
