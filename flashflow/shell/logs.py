"""Logging of the services: to stderr, where systemd's journal takes it."""

import logging

LIBRARIES = ("stem", "alembic", "filelock")
"""They do not follow our level, and stem could log tokens."""


def start_logging(level: int | str) -> None:
    """Log from `level` on; libraries only what is wrong."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
