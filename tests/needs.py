"""What a test needs of the machine. Where that is missing it is skipped, and says how to have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ensemble.serving_environment import ServerError, find_serving_environment
from export_scripts.errors import CestaError


def a_tritonserver() -> None:
    """Skip without a serving environment."""
    try:
        find_serving_environment()
    except ServerError as error:
        pytest.skip(str(error))


@contextmanager
def debian_packages() -> Iterator[None]:
    """Skip where what is started inside wants a package that is not installed; any other error goes on."""
    try:
        yield
    except CestaError as error:
        if "apt-get install" not in str(error):
            raise
        pytest.skip(str(error))
