"""The results database: every measurement with each party's per-second reports, and small pieces of state.

`store.Store` is what the coordinator uses; `latest` is the pure type that the v3bw file is made from; `schema` has the
tables as they are now and `rows` converts between them and records; `opening` checks a file's version and damage,
makes the backup and applies `migrations/`, one alembic revision for each schema version.
"""
