"""Configs beside config.pbtxt, `configs/<name>.pbtxt`: only servers that ask for them load them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from loadtests.faults.broken_releases import another_score
from operations.errors import CestaError
from operations.records.contract import MODEL_REPOSITORY, SCORER
from operations.releases.mirror.local_files import local_files
from operations.releases.model_control import ModelControl
from operations.releases.models import configs
from operations.releases.promote import promote
from operations.server.process import Server, ServerError
from operations.supervisor.pinned import load_active, load_others
from tests.running.live import check_canary
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120)]

TENSORRT = f"{SCORER}/configs/tensorrt.pbtxt"
DELAY_US = 123  # by which the config of these tests is known


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a config for scorers that wait DELAY_US for more requests; the operator wrote it."""
    sources = tmp_path / "model_repository"
    shutil.copytree(MODEL_REPOSITORY, sources)
    text = (sources / SCORER / "config.pbtxt").read_text()
    text = text.replace("microseconds: 100", f"microseconds: {DELAY_US}")
    text += 'parameters { key: "cesta_config" value { string_value: "patient" } }\n'
    (sources / SCORER / "configs" / "patient.pbtxt").write_text(text)
    monkeypatch.setattr(configs, "MODEL_REPOSITORY", sources)
    return "patient"


def delay(control: ModelControl) -> int:
    return int(control.config(SCORER).dynamic_batching.max_queue_delay_microseconds)


def answered(server: Server, release: int) -> int:
    """Answers of the scorer of `release` since it was loaded: Triton starts at 0 when it reloads."""
    with triton.InferenceServerClient(server.grpc) as client:
        (model_statistics,) = client.get_inference_statistics(SCORER, str(release)).model_stats
    return int(model_statistics.inference_count)


def await_answer(server: Server, release: int) -> int:
    """Wait until the answer is counted: Triton answers first and counts later."""
    deadline = time.monotonic() + 60
    while not (count := answered(server, release)):
        assert time.monotonic() < deadline
    return count


def test_what_serves_is_not_reloaded_for_a_config_that_others_take(shop: ToyShop) -> None:
    """A promotion writes the file once, and the scorer in service stays loaded. A touched file makes Triton
    reload everything.
    """
    one = shop.first(1)
    source = (MODEL_REPOSITORY / TENSORRT).read_text()
    assert (shop.repository / TENSORRT).read_text() == source
    written = (shop.repository / TENSORRT).stat().st_mtime_ns
    check_canary(shop.server)
    before = await_answer(shop.server, one)

    promote(shop.repository, shop.add(2), shop.control)

    assert (shop.repository / TENSORRT).stat().st_mtime_ns == written
    assert answered(shop.server, one) >= before
    assert shop.control.ready(SCORER) == {one, one + 1}
    (shop.repository / TENSORRT).touch()
    shop.control.set_versions(SCORER, {one})
    assert answered(shop.server, one) == 0


def test_a_server_that_was_started_with_a_named_config_keeps_to_it(
    shop: ToyShop, patient: str, start_server: Callable[..., Server]
) -> None:
    """Triton takes the config by --model-config-name. The promotion asks the server and uses it for the next
    release.

    Golden answers may then differ by the rounding of another processor.
    """
    promote(shop.repository, shop.add(1))
    server = start_server(str(shop.repository), config=patient)
    with ModelControl(server.grpc) as control:
        assert delay(control) == DELAY_US
        assert control.config("candidate_sampler").dynamic_batching.max_queue_delay_microseconds == 100

        check_canary(server)
        await_answer(server, 1)
        two = shop.add(2)
        another_score(shop.repository, two)  # what a GPU's rounding may do
        promote(shop.repository, two, control)

        assert control.ready(SCORER) == {1, 2}
        assert delay(control) == DELAY_US
        assert not answered(server, 1)  # to Triton, config.pbtxt is now a file of all versions


def test_a_supervised_server_is_given_the_named_config(
    shop: ToyShop, patient: str, start_server: Callable[..., Server]
) -> None:
    """The server starts empty, as with `cesta serve`. The active release and the one before it load with that
    config.
    """
    promote(shop.repository, shop.add(1))
    promote(shop.repository, shop.add(2))
    with ModelControl(start_server(str(shop.repository), models=()).grpc) as control:
        with pytest.raises(CestaError, match=r'no config "h100" in .*; there is patient and tensorrt, and'):
            load_active(local_files(shop.repository), control, "h100")
        load_active(local_files(shop.repository), control, patient)
        load_others(local_files(shop.repository), control)

        assert control.ready(SCORER) == {1, 2}
        assert delay(control) == DELAY_US


def test_the_embedded_server_refuses_the_gpu_s_config(
    shop: ToyShop, start_server: Callable[..., Server]
) -> None:
    """The error holds Triton's own words, as `cesta serve --config tensorrt` prints them on a machine without
    a GPU.
    """
    promote(shop.repository, shop.add(1))

    with pytest.raises(ServerError, match="ncf_scorer has kind KIND_GPU but no GPUs are available"):
        start_server(str(shop.repository), config="tensorrt")
