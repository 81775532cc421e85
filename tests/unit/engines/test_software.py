"""A worker with other code or libraries than the stage is refused, and the sentence names the difference."""

import pytest

from export_scripts.engines.software import check_software, software
from operations.errors import CestaError


def test_the_same_software_is_accepted() -> None:
    check_software(dict(software()), "node-1")


@pytest.mark.parametrize("name", ["the code of cesta", "python", "numpy"])
def test_other_software_is_named(name: str) -> None:
    own = software()[name]
    with pytest.raises(
        CestaError, match=f"^the Ray node node-1 has {name} {own}, and the stage has another; "
    ):
        check_software({**software(), name: "another"}, "node-1")


def test_a_library_that_the_worker_does_not_know_is_named() -> None:
    with pytest.raises(CestaError, match="has polars not at all, and the stage has 2"):
        check_software({**software(), "polars": "2"}, "node-1")
