"""The release commands of a gateway elsewhere, asked with a key of the role admin.

A change is an operation: the gateway answers at once, and this module asks how far it is until it has ended.
"""

import json
import os
import re
import socket
import ssl
import time
import urllib.request
import uuid
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit

from operations.address import host_of, is_near
from operations.errors import BeingChanged, CestaError, NoAnswer
from operations.gateway.traffic import Traffic
from operations.releases.history import Record
from operations.releases.overview.listing import Listing

KEY: Final = "CESTA_ADMIN_KEY"
KEY_FILE: Final = "CESTA_ADMIN_KEY_FILE"
KEY_FORM: Final = re.compile(r"[!-~]+")  # what a header can hold
WAY_OUT: Final = f'set {KEY_FILE} or {KEY} to a key of "cesta keys add NAME --role admin"'
NEVER_SENT: Final = (ConnectionRefusedError, socket.gaierror, ssl.SSLError)  # reasons of a URLError
TIMEOUT_S: Final = 31 * 60  # of a change: scorer, sampler and ensemble may each take 600 s to load
ANSWER_S: Final = 60.0  # of one request: the list of a bucket takes some seconds
FIRST_WAIT_S: Final = 0.1  # before the first look at an operation; each wait is twice the one before
LAST_WAIT_S: Final = 2.0
SILENT_S: Final = 60.0  # how long a gateway may be away while an operation runs
PASSING: Final = {429: NoAnswer, 502: NoAnswer, 503: BeingChanged, 504: NoAnswer}
SENT_AGAIN: Final = 3  # times that a change is asked for: its Idempotency-Key makes it once
NO_HEADERS: Final[Mapping[str, str]] = {}

JsonObject = Mapping[str, object]
Environment = Mapping[str, str]


class Unreached(NoAnswer):
    """The request was never sent."""


class RemoteGateway:
    """Changes the server behind the gateway at ``url``. Raises CestaError with the gateway's own sentence."""

    def __init__(self, url: str, key: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._timeout_s = _checked(url), timeout_s
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        direct = is_near(host_of(url))  # a proxy cannot reach it
        proxies = [urllib.request.ProxyHandler({})] if direct else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)

    def promote(self, release: int, force: bool = False, expected: int | None = None) -> Record:
        """Promote; only in the place of the release ``expected``, if it is given."""
        body: JsonObject = {"force": force, **_expecting(expected)}
        return self._record(f"/admin/releases/{release}/promote", body)

    def canary(self, release: int, percent: float, force: bool = False) -> Record:
        """Give the release this share of the requests; 0 ends that."""
        return self._record(f"/admin/releases/{release}/canary", {"percent": percent, "force": force})

    def roll_back(self, expected: int | None = None) -> Record:
        """Roll back; only from the release ``expected``, if it is given."""
        return self._record("/admin/rollback", _expecting(expected))

    def releases(self) -> Listing:
        """Every release, and which one is active, previous or canary."""
        listing: Listing = self._ask("/admin/releases", None)
        return listing

    def retire(self, keep: int) -> list[int]:
        """Delete old releases as ``operations.releases.retire`` does; their numbers."""
        retired: list[int] = self._change("/admin/retire", {"keep": keep})["retired"]
        return retired

    def traffic(self) -> Traffic:
        """What shops were answered, by release."""
        traffic: Traffic = self._ask("/admin/traffic", None)
        return traffic

    def drift(self) -> Any:
        """How far what is asked has drifted: the answer of ``GET /v1/drift``."""
        return self._ask("/v1/drift", None)

    def stock(self, item: str = "", store: str = "") -> Any:
        """Return the state of the stock, and of one item if named: the answer of ``GET /v1/availability``."""
        asked = urlencode({"item_id": item, "store_id": store}) if item else ""
        return self._ask(f"/v1/availability{'?' if asked else ''}{asked}", None)

    def _record(self, path: str, body: JsonObject) -> Record:
        record: Record = self._change(path, body)
        return record

    def _change(self, path: str, body: JsonObject) -> Any:
        """Start an operation, wait for its end, and return its result."""
        operation = self._await_end(self._start(path, json.dumps(body).encode()))
        if operation["state"] == "succeeded":
            return operation["result"]
        failure = operation["failure"]
        kind = NoAnswer if operation["state"] == "interrupted" else CestaError
        kind = BeingChanged if failure["status"] == 503 else kind
        raise kind(f"{self._url}{path}: {failure['status']}: {failure['error']}")

    def _start(self, path: str, body: bytes) -> Any:
        """Ask for a change, and again if its answer was lost. By the key the gateway makes it once."""
        key, wait_s = {"Idempotency-Key": str(uuid.uuid4())}, FIRST_WAIT_S
        for _ in range(SENT_AGAIN - 1):
            try:
                return self._ask(path, body, key)
            except Unreached:
                raise
            except NoAnswer:
                time.sleep(wait_s)
                wait_s *= 4
        return self._ask(path, body, key)

    def _await_end(self, operation: Any) -> Any:
        """Ask for an operation until it has ended. The gateway may start again meanwhile."""
        path, wait_s = f"/admin/operations/{operation['id']}", FIRST_WAIT_S
        until_s = time.monotonic() + self._timeout_s
        silent_s = time.monotonic() + SILENT_S
        while operation["state"] == "running":
            if time.monotonic() > until_s:
                raise NoAnswer(f"{self._url}{path}: it still runs after {self._timeout_s:g} s")
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LAST_WAIT_S)
            try:
                operation, silent_s = self._ask(path, None), time.monotonic() + SILENT_S
            except (NoAnswer, BeingChanged):
                if time.monotonic() > silent_s:
                    raise
        return operation

    def _ask(self, path: str, body: bytes | None, headers: Mapping[str, str] = NO_HEADERS) -> Any:
        request = urllib.request.Request(self._url + path, body, {**self._headers, **headers})
        try:
            with self._opener.open(request, timeout=min(self._timeout_s, ANSWER_S)) as answer:
                return json.load(answer)
        except HTTPError as error:
            kind = PASSING.get(error.code, CestaError)
            raise kind(f"{self._url}{path}: {error.code}: {_sentence(error)}") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            said = f"{self._url}{path}: no answer ({reason})"
            if isinstance(reason, NEVER_SENT):
                raise Unreached(
                    f"{said}; does the gateway run at this address, and is it https or http?"
                ) from None
            raise NoAnswer(f"{said}; list the releases, for a change may have been made") from None


def _expecting(release: int | None) -> JsonObject:
    return {} if release is None else {"expected_release": release}


def read_admin_key(environment: Environment = os.environ) -> str:
    """The key in the file of CESTA_ADMIN_KEY_FILE, or in CESTA_ADMIN_KEY. Raises CestaError without one."""
    if file := environment.get(KEY_FILE):
        try:
            key = Path(file).read_text(encoding="ascii").strip()
        except OSError as error:
            raise CestaError(f"{KEY_FILE}: {file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise CestaError(f"{KEY_FILE}: {file} holds no key; {WAY_OUT}") from None
    else:
        key = environment.get(KEY, "").strip()
    if not key:
        raise CestaError(f"no admin key: {WAY_OUT}")
    if not KEY_FORM.fullmatch(key):  # never in a message: the rest of the file may be a key
        raise CestaError(f"the admin key is not one word; {WAY_OUT}")
    return key


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        has_more = parts.path.strip("/") or parts.query or parts.fragment or parts.username
        is_gateway = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not has_more
    except ValueError:  # the port is not a number, or a bracket is missing
        is_gateway = False
    if not is_gateway:
        raise CestaError(
            f'"{url}" is not a gateway; write https://host, or http://127.0.0.1:8080 on this machine'
        )
    if parts.scheme == "http" and not is_near(host_of(url)):
        raise CestaError(f"{url} would send the admin key unencrypted over foreign networks; write https://")
    return url.rstrip("/")


def _sentence(error: HTTPError) -> str:
    """The gateway's own sentence, or the status where a stranger answers."""
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.reason}; is this cesta's gateway?"
