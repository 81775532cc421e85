"""Releases are signed by their publisher, and refused before any of their code is loaded if they are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from loadtests.faults.broken_releases import rewrite_manifest
from operations.errors import CestaError, NotPromoted
from operations.records.contract import MODELS, Config, read_config
from operations.releases import publish
from operations.releases.canary import start_canary
from operations.releases.mirror.local_files import local_files
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release, manifest_place, read_release
from operations.releases.signatures import signature
from operations.releases.signatures.intact import check_front, check_part
from operations.releases.signatures.signature import sign
from operations.releases.signatures.signing_key import key_id, own_key_file, public_line
from operations.releases.signatures.trust import find_trust, publisher_key, trust_key, trusted_keys_file
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import Repository
from operations.supervisor.pinned import load_active
from tests.building.repositories import KINDS, empty_repository, folder_only
from tests.building.runs import make_run


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder without keys."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "cesta"


@pytest.fixture(params=KINDS)
def repository(request: pytest.FixtureRequest, state: Path, tmp_path: Path) -> Repository:
    """Release 1 is active, release 2 is published."""
    repository = empty_repository(request)
    promote(repository, publish.publish(make_run(tmp_path / "one"), repository))
    publish.publish(make_run(tmp_path / "two", seed=2), repository)
    return repository


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as events:
        yield events


def write_key(path: Path) -> Ed25519PrivateKey:
    """Another publisher's key, in a PEM file."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def signatures(repository: Repository) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (repository / signature.NAME).read_bytes().splitlines()]


def write_signatures(repository: Repository, lines: list[dict[str, Any]]) -> None:
    repository.write(signature.NAME, "".join(json.dumps(line) + "\n" for line in lines).encode())


def unsign(repository: Repository) -> str:
    """Leave the repository as an older cesta would, and return the refusal."""
    write_signatures(repository, [])
    return r'release 2 in \S+ is not signed; .*"cesta release sign 2".*CESTA_UNSIGNED_RELEASES=allow'


def alter_the_manifest(repository: Repository) -> str:
    name = "recommender/2/manifest.json"
    repository.write(
        name, (repository / name).read_bytes().replace(b'"created_at": "20', b'"created_at": "19')
    )
    return rf"{name} is not what {publisher_id()} signed as release 2"


def sign_with_a_stranger_s_key(repository: Repository) -> str:
    key = Ed25519PrivateKey.generate()
    write_signatures(repository, [line for line in signatures(repository) if line["release"] == 1])
    sign(repository, 2, manifest_place(repository, 2).read_bytes(), key)
    return rf"release 2 in \S+ is signed by {key_id(key.public_key())}, and \S+ lists {publisher_id()}; "


def claim_a_trusted_key(repository: Repository) -> str:
    """A stranger's signature under the id of the trusted key."""
    sign(repository, 2, manifest_place(repository, 2).read_bytes(), Ed25519PrivateKey.generate())
    first, _, stranger = signatures(repository)
    write_signatures(repository, [first, stranger | {"key": publisher_id()}])
    return rf"is not what {publisher_id()} signed as release 2"


def end_the_trust(repository: Repository) -> str:
    trusted_keys_file().write_text(f"# nobody\n{public_line(Ed25519PrivateKey.generate().public_key())}\n")
    return rf"release 2 in \S+ is signed by {publisher_id()}, and \S+ lists [0-9a-f]{{16}}; "


def lose_the_trusted_keys(repository: Repository) -> str:
    trusted_keys_file().unlink()
    return r'and \S+trusted-keys lists no key; if you trust .*"cesta release trust"'


def alter_the_code(repository: Repository) -> str:
    name = "candidate_sampler/2/model.py"
    repository.write(name, (repository / name).read_bytes() + b"\nopen('/tmp/planted', 'w')\n")
    return f"{name} is not what the manifest lists"


def plant_a_cache(repository: Repository) -> str:
    name = "candidate_sampler/2/__pycache__/model.cpython-311.pyc"
    repository.write(name, b"code")
    return f"{name} is not in the manifest"


def plant_a_module(repository: Repository) -> str:
    repository.write("candidate_sampler/colorama.py", b"open('/tmp/planted', 'w')\n")
    return r"candidate_sampler/colorama.py was not written by cesta"


def replay_another_release(repository: Repository) -> str:
    """Files, manifest and valid signature of release 1, moved to number 2."""
    files = {name: (repository / name).read_bytes() for name in read_release(repository, 1).files}
    for model in MODELS:
        repository.delete_folder(f"{model}/2")
    for name, content in files.items():
        repository.write(name.replace("/1/", "/2/"), content)
    repository.write("recommender/2/manifest.json", manifest_place(repository, 1).read_bytes())
    first, _ = signatures(repository)
    write_signatures(repository, [first, first | {"release": 2}])
    return rf"recommender/2/manifest.json is not what {publisher_id()} signed as release 2"


def publisher_id() -> str:
    return key_id(publisher_key().public_key())


REFUSED = [
    *(unsign, alter_the_manifest, sign_with_a_stranger_s_key, claim_a_trusted_key, end_the_trust),
    *(lose_the_trusted_keys, alter_the_code, plant_a_cache, plant_a_module, replay_another_release),
]
Damage = Callable[[Repository], str]


@pytest.mark.parametrize("damage", REFUSED)
def test_a_release_that_nobody_trusted_signed_is_refused(repository: Repository, damage: Damage) -> None:
    """By verify, promote, canary and, once it was active, by a rollback to it."""
    sentence = damage(repository)
    with pytest.raises(CestaError, match=sentence):
        verify_release(repository, 2)
    with pytest.raises(NotPromoted, match=f'step "verify" failed: .*{sentence}'):
        promote(repository, 2)
    with pytest.raises(NotPromoted, match=f'step "verify" failed: .*{sentence}'):
        start_canary(repository, 2, 5)
    assert active_release(repository) == 1


class Recording:
    """The model control of a server that would load anything."""

    def __init__(self) -> None:
        self.loaded: list[Config] = []
        self.load = self.loaded.append


def start(repository: Repository, control: Any) -> int:
    """Load the active release as a starting server does."""
    local = local_files(repository)
    local.refresh(starting=True)
    return load_active(local, control)


@pytest.mark.parametrize("damage", REFUSED)
def test_a_start_loads_nothing_of_it(repository: Repository, damage: Damage) -> None:
    """The server is not told to load any model; neither is it when the watchdog starts it again.

    A bucket's mirror has the files as they were signed, and what is planted in the bucket never gets there.
    """
    promote(repository, 2)
    control: Any = Recording()
    assert start(repository, control) == 2
    assert [config.name for config in control.loaded] == [
        "ncf_scorer",
        "candidate_sampler",
        "recommender",
    ] or [config.name for config in control.loaded] == ["candidate_sampler", "ncf_scorer", "recommender"]
    sentence = damage(repository)
    control = Recording()
    if repository.is_remote and damage in (alter_the_code, plant_a_cache, plant_a_module):
        assert start(repository, control) == 2
        assert verify_release(local_files(repository).folder, 2).release == 2
        return
    with pytest.raises(CestaError, match=f"release 2 cannot be served: .*{sentence}"):
        start(repository, control)
    assert control.loaded == []


@folder_only
def test_a_rollback_to_an_untrusted_release_is_refused(repository: Repository, tmp_path: Path) -> None:
    promote(repository, 2)
    key = write_key(tmp_path / "key.pem")
    trusted_keys_file().write_text(public_line(key.public_key()))
    sign(repository, 2, manifest_place(repository, 2).read_bytes(), key)
    with pytest.raises(NotPromoted, match=r"release 1 was not returned to.*is signed by"):
        roll_back(repository)
    sign(repository, 1, manifest_place(repository, 1).read_bytes(), key)
    assert roll_back(repository)["release"] == 1


EVIL = {
    "another environment": lambda config: config.parameters["EXECUTION_ENV_PATH"].MergeFrom(
        type(config.parameters["EXECUTION_ENV_PATH"])(string_value="/repository/evil.tar.gz")
    ),
    "another backend": lambda config: setattr(config, "backend", "evil"),
    "another file": lambda config: setattr(config, "default_model_filename", "../evil.py"),
    "an agent": lambda config: config.model_repository_agents.agents.add(name="evil"),
    "a library": lambda config: config.model_operations.op_library_filename.append("/repository/evil.so"),
    "another model": lambda config: setattr(config, "name", "evil"),
}


@folder_only
@pytest.mark.parametrize("change", EVIL.values(), ids=EVIL)
def test_a_config_that_names_other_code_is_refused(
    repository: Repository, change: Callable[[Config], None]
) -> None:
    """No signature covers the configs, which belong to the operator; those about batching may differ."""
    described = read_release(repository, 1)
    config = read_config(repository / "candidate_sampler" / "config.pbtxt")
    config.instance_group[0].count = 3
    config.dynamic_batching.max_queue_delay_microseconds = 7
    check_part("candidate_sampler", config, described)
    change(config)
    with pytest.raises(CestaError, match=r"cesta release promote.*--offline"):
        check_part("candidate_sampler", config, described)


@folder_only
def test_an_ensemble_asks_only_the_parts_of_its_release(repository: Repository) -> None:
    config, described = read_config(repository / "recommender" / "config.pbtxt"), read_release(repository, 1)
    check_front("recommender", config, described)
    config.ensemble_scheduling.step.add(model_name="evil", model_version=1)
    with pytest.raises(CestaError, match=r"names .* and evil 1, not the parts of release 1"):
        check_front("recommender", config, described)


@folder_only
def test_a_first_publisher_needs_no_keys(state: Path, repository: Repository) -> None:
    """Publishing makes a key that only its user can read, once, and trusts it."""
    assert sorted(path.name for path in state.iterdir()) == ["signing-key", "trusted-keys"]
    assert (state.stat().st_mode & 0o777, own_key_file().stat().st_mode & 0o777) == (0o700, 0o600)
    assert [line["key"] for line in signatures(repository)] == [publisher_id()] * 2
    assert [*find_trust().keys] == [publisher_id()]


@folder_only
def test_a_release_looks_as_before_to_an_older_cesta(repository: Repository) -> None:
    """It refuses a file of a release that the manifest does not list, and ignores files beside the models."""
    for number in (1, 2):
        listed = {*read_release(repository, number).files, f"recommender/{number}/manifest.json"}
        assert {name for model in MODELS for name in repository.describe(f"{model}/{number}")} == listed


@folder_only
def test_keys_are_rotated(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new key is trusted beside the old one; releases of both are accepted until the old line goes."""
    old = publisher_id()
    key = write_key(tmp_path / "new.pem")
    monkeypatch.setenv("CESTA_SIGNING_KEY_FILE", str(tmp_path / "new.pem"))
    assert publish.publish(make_run(tmp_path / "three", seed=3), repository) == 3
    with pytest.raises(CestaError, match=f"signed by {publisher_id()}, and .* lists {old}"):
        verify_release(repository, 3)
    assert (
        trust_key(public_line(key.public_key())) == trust_key(public_line(key.public_key())) == publisher_id()
    )
    assert {*find_trust().keys} == {old, publisher_id()}
    assert [verify_release(repository, number).release for number in (2, 3)] == [2, 3]
    new_only = trusted_keys_file().read_text().splitlines()[1]
    trusted_keys_file().write_text(new_only)
    with pytest.raises(CestaError, match=f"signed by {old}"):
        verify_release(repository, 2)


@folder_only
def test_an_operator_vouches_for_an_older_release(repository: Repository) -> None:
    unsign(repository)
    sign(repository, 2, manifest_place(repository, 2).read_bytes(), publisher_key())
    assert promote(repository, 2)["release"] == 2


@folder_only
def test_unsigned_releases_pass_if_a_setting_allows_it(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    """Each use is logged. Their files are checked all the same; a wrong signature does not pass."""
    unsign(repository)
    monkeypatch.setenv("CESTA_UNSIGNED_RELEASES", "allow")
    promote(repository, 2)
    (event,) = [event for event in logged if event["event"] == "unsigned release"]
    assert (event["release"], event["setting"]) == (2, "CESTA_UNSIGNED_RELEASES")
    alter_the_code(repository)
    with pytest.raises(CestaError, match="is not what the manifest lists"):
        verify_release(repository, 2)
    sentence = sign_with_a_stranger_s_key(repository)
    with pytest.raises(CestaError, match=sentence):
        verify_release(repository, 2)


@folder_only
def test_the_setting_for_unsigned_releases_has_two_values(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CESTA_UNSIGNED_RELEASES", "yes")
    with pytest.raises(CestaError, match='CESTA_UNSIGNED_RELEASES is "yes"; use refuse or allow'):
        verify_release(repository, 1)


@folder_only
def test_an_unsigned_run_is_published_again(repository: Repository, tmp_path: Path) -> None:
    """So "cesta build" works on in a repository of an older cesta."""
    assert publish.published_as(tmp_path / "two", repository) == 2
    unsign(repository)
    assert publish.published_as(tmp_path / "two", repository) is None


@pytest.mark.parametrize("line", ["", "ed25519", "ed25519 AAAA", "rsa " + "A" * 43 + "=", "ed25519 ü"])
def test_a_line_that_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(CestaError, match=r'the line holds no public key; .*"cesta release keys"'):
        trust_key(line)


def test_a_damaged_line_of_the_trusted_keys_is_named(state: Path) -> None:
    publisher_key()
    trusted_keys_file().write_text("# a comment\n\nnonsense\n")
    with pytest.raises(CestaError, match="trusted-keys, line 3 holds no public key"):
        find_trust()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the signing key cannot be read: .*No such file"),
        (b"secret", "holds no private key without a password"),
    ],
)
def test_a_signing_key_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    """Nothing is published. The sentence does not repeat the file's content."""
    if content:
        (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv("CESTA_SIGNING_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(CestaError, match=rf"{message}.*openssl genpkey -algorithm ed25519") as caught:
        publisher_key()
    assert "secret" not in str(caught.value)


def test_a_damaged_line_among_the_signatures_is_none(repository: Repository) -> None:
    """A torn write must not make every release unusable."""
    lines = (repository / signature.NAME).read_bytes()
    repository.write(signature.NAME, b'{"release": 2, "key\nnull\n[1]\n{"release": 2}\n' + lines)
    assert verify_release(repository, 2).release == 2


@folder_only
def test_a_manifest_that_is_written_again_needs_a_new_signature(repository: Repository) -> None:
    rewrite_manifest(repository, 2, git_commit="0" * 40)
    assert verify_release(repository, 2).git_commit == "0" * 40
