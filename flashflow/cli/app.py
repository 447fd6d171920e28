"""A typer application whose usage errors are one line and exit status 2, as all of FlashFlow's are."""

from collections.abc import Sequence
from typing import Any

import typer

from flashflow.model.errors import UsageError


class App(typer.Typer):
    """What a file of this folder calls `app`; an application of several commands shows its help without one."""

    def __init__(self, *, help: str | None = None) -> None:  # noqa: A002 - typer's own name
        super().__init__(
            help=help, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
        )

    def __call__(self, *, args: Sequence[str], prog_name: str, obj: Any = None) -> None:
        """Run the command that `args` name, with `obj` as its context's object.

        Raises UsageError for what it does not take, SystemExit(status).
        """
        command = typer.main.get_command(self)
        try:
            status: Any = command.main(
                args=list(args) or ["--help"][: _is_group(command)],
                prog_name=prog_name,
                standalone_mode=False,
                obj=obj,
            )
        except typer.TyperException as error:
            where = getattr(getattr(error, "ctx", None), "command_path", prog_name)
            text = " ".join(error.format_message().split()).rstrip(".")
            raise UsageError(f"{text} (see {where} --help)") from None
        if isinstance(status, int) and status:
            raise SystemExit(status)


def new_app(help: str | None = None) -> App:  # noqa: A002 - typer's own name
    """An application to add commands to; see App."""
    return App(help=help)


def _is_group(command: Any) -> bool:
    return hasattr(command, "commands")
