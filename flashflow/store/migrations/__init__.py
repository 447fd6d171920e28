"""One alembic revision for each schema version; a released one never changes."""
