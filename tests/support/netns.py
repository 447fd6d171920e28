"""What tests in network namespaces need of the machine."""

import os

import pytest

from flashflow.testnet.links import why_not


def need_netns() -> None:
    """Skips the test where no shaped link can be made, unless FLASHFLOW_REQUIRE lists netns: then it fails."""
    reason = why_not()
    if reason is None:
        return
    if "netns" in os.environ.get("FLASHFLOW_REQUIRE", "").replace(",", " ").split():
        pytest.fail(reason)
    pytest.skip(reason)
