"""Runs an asynchronous test once on asyncio's own loop and once on uvloop, which services use."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

FACTORIES = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
NAME = "new_loop"


def both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Decorates `async def test_…(fixtures)`."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        with asyncio.Runner(loop_factory=given.pop(NAME)) as runner:
            runner.run(test(**given))

    signature = inspect.signature(test)
    added = inspect.Parameter(NAME, inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])  # type: ignore[attr-defined]
    return pytest.mark.parametrize(NAME, FACTORIES.values(), ids=FACTORIES.keys())(run)
