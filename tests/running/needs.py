"""What a test needs of the machine. A test whose need is missing is skipped, and says how to install it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from operations.errors import CestaError
from operations.server.compiled_backend import find_compiler, find_library
from operations.server.environment import ServerError, find_serving_environment


def a_tritonserver() -> None:
    """Skip without a serving environment."""
    try:
        find_serving_environment()
    except ServerError as error:
        pytest.skip(str(error))


def the_compiled_backend() -> None:
    """Skip without a C++ compiler. With a compiler, a backend that is not compiled is a failure."""
    a_tritonserver()
    if find_library(find_serving_environment()):
        return
    if compiler := find_compiler():
        pytest.fail(
            f'no library of these sources, though {compiler} is here; "make install" says why', pytrace=False
        )
    pytest.skip("no C++ compiler; apt-get install g++")


@contextmanager
def debian_packages() -> Iterator[None]:
    """Skip if the block needs a Debian package that is not installed; let every other error pass."""
    try:
        yield
    except CestaError as error:
        if "apt-get install" not in str(error):
            raise
        pytest.skip(str(error))
