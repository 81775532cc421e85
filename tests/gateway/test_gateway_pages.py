"""Pages that ask the gateway themselves: what a token allows, and what it does not."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operations.errors import CestaError
from operations.gateway.control import TOKEN, announce
from operations.gateway.keys import add_key, read_keys, revoke_key, rotate_key
from tests.running.door import Answer, Door, OpenDoor, Supervisor
from tests.running.fake_triton import FakeTriton, fake_triton
from tests.running.gateway_log import read_log_line

pytestmark = pytest.mark.triton

SECRET = b"only-gateway-and-supervisor-know"
SHOP = "https://shop.example"
ASK = {"basket": ["i1"]}


@pytest.fixture(scope="module")
def triton_of_pages() -> Iterator[FakeTriton]:
    with fake_triton() as server:
        yield server


@pytest.fixture(scope="module")
def pages(open_gateway: OpenDoor, triton_of_pages: FakeTriton, supervisor: Supervisor) -> Door:
    """A gateway with the key `page`, whose sessions may ask five times at once."""
    door = open_gateway(triton_http=triton_of_pages.address, workers=1)
    folder = door.settings.folder
    (folder / TOKEN).write_bytes(SECRET)
    door.keys["page"] = add_key(folder, "page", "browser", 1000, origins=[SHOP], session_rate=5)
    door.keys["other"] = add_key(folder, "other", "browser", 1000, origins=["https://other.example"])
    assert announce(folder)
    return door


def token(door: Door, key: str = "page", **body: Any) -> str:
    answer = door.ask("/v1/tokens", body, key=key)
    assert answer.status == 200, answer
    text: str = answer.body["token"]
    return text


def ask(door: Door, key: str, body: Any = ASK, origin: str = SHOP, path: str = "/v1/recommend") -> Answer:
    return door.ask(path, body, key=key, headers={"Origin": origin} if origin else {})


def test_a_page_asks_for_the_customer_of_its_token_only(pages: Door, triton_of_pages: FakeTriton) -> None:
    """The customer need not be named."""
    mine = token(pages, user_id="900")
    answer = ask(pages, mine)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["vary"] == "Origin"
    assert triton_of_pages.asked[-1].ids["user_id"] == [[b"900"]]
    assert ask(pages, mine, {"user_id": "900"}).status == 200
    for other in ("901", "", 900, ["900"]):
        refused = ask(pages, mine, {"user_id": other})
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (403, SHOP)
        assert refused.body["error"] == "this token is for another customer"


def test_the_session_is_that_of_the_token(pages: Door) -> None:
    """By it the gateway chooses the release. A page that could name another would choose by itself."""
    headers = {"Origin": SHOP, "X-Session-Id": "another", "X-Request-Id": "of-a-page"}
    mine = token(pages, session_id="visit-1")
    assert pages.ask("/v1/recommend", ASK, key=mine, headers=headers).status == 200
    assert read_log_line(pages, "of-a-page")["session"] == "visit-1"


def test_a_token_for_nobody_reads_nobody_s_habits(pages: Door, triton_of_pages: FakeTriton) -> None:
    nobodys = token(pages)
    assert ask(pages, nobodys, {"basket": ["i1"], "user_id": None}).status == 200
    assert "user_id" not in triton_of_pages.asked[-1].ids or triton_of_pages.asked[-1].ids["user_id"] == [
        [b""]
    ]
    assert ask(pages, nobodys, {"user_id": "900"}).status == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommend/batch", {"queries": [ASK]}),
        ("/v2/models/recommender/infer", {}),
        ("/v1/items", None),
        ("/v1/status", None),
        ("/v1/tokens", {}),
        ("/admin/releases", None),
    ],
)
def test_a_token_and_the_key_behind_it_reach_nothing_else(pages: Door, path: str, body: Any) -> None:
    """Neither does a shop's key make tokens."""
    assert ask(pages, token(pages), body, path=path).status == 403
    if path == "/v1/tokens":
        assert pages.ask(path, body, key="shop").status == 403
    else:
        assert pages.ask(path, body, key="page").status == 403
    assert ask(pages, "page").status == 403


@pytest.mark.parametrize("origin", ["", "https://evil.example", "https://other.example", "null", f"{SHOP}/"])
def test_a_token_serves_pages_of_its_key_only(pages: Door, origin: str) -> None:
    refused = ask(pages, token(pages), origin=origin)
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers


def test_a_browser_may_ask_first(pages: Door) -> None:
    """Without a key, as browsers do, for origins that some key serves."""
    preflight = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}
    allowed = pages.ask("/v1/recommend", method="OPTIONS", key=None, headers=preflight)
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (204, SHOP)
    assert "Authorization" in allowed.headers["access-control-allow-headers"]
    for path, origin in (("/v1/recommend", "https://evil.example"), ("/v1/items", SHOP)):
        refused = pages.ask(path, method="OPTIONS", key=None, headers=preflight | {"Origin": origin})
        assert (refused.status, "access-control-allow-origin" in refused.headers) == (401, False)


def test_a_visitor_who_asks_too_often_disturbs_no_other(pages: Door) -> None:
    pages.keys["slow"] = add_key(
        pages.settings.folder, "slow", "browser", 1000, origins=[SHOP], session_rate=1
    )
    assert announce(pages.settings.folder)
    hasty, calm = token(pages, "slow", session_id="hasty"), token(pages, "slow", session_id="calm")
    statuses = [ask(pages, hasty).status for _ in range(12)]
    assert statuses[:2] == [200] * 2
    assert 429 in statuses
    assert ask(pages, calm).status == 200


def test_a_visitor_holds_few_requests_at_once(pages: Door, triton_of_pages: FakeTriton) -> None:
    """Four wait; a fifth is refused, and another visitor is answered. They are given back."""
    held, other = token(pages, session_id="holding"), token(pages, session_id="passing")
    began, before = threading.Barrier(5), len(triton_of_pages.asked)
    triton_of_pages.may_answer.clear()

    def hold() -> None:
        began.wait()
        ask(pages, held)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    began.wait()
    while len(triton_of_pages.asked) < before + 4:
        threading.Event().wait(0.01)
    assert ask(pages, held).status == 429
    triton_of_pages.may_answer.set()
    for thread in threads:
        thread.join()
    assert ask(pages, other).status == 200


def forge(text: str, **changes: Any) -> str:
    """The token with other claims and its old signature."""
    head, payload, signature = text.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    changed = base64.urlsafe_b64encode(json.dumps(claims | changes).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"


def test_a_forged_token_is_no_key(pages: Door) -> None:
    mine = token(pages, user_id="900")
    assert ask(pages, forge(mine)).status == 401  # equal claims in other bytes
    forged = (forge(mine, user_id="901"), mine[:-1], mine + "A", "cestat..", f"cestat.{mine.split('.')[1]}.")
    for text in forged:
        assert ask(pages, text).status == 401, text


def test_a_token_ends_with_its_time(pages: Door) -> None:
    """Tokens as deploy/gateway/lua/pages.lua describes them, signed here: one lives, the other has ended.

    The page's script may read why. Pages of strangers learn nothing.
    """
    assert ask(pages, signed(pages, time.time() + 60)).status == 200
    ended = signed(pages, time.time() - 1)
    assert ask(pages, ended, b"x" * 70_000).headers["access-control-allow-origin"] == SHOP
    refused = ask(pages, ended)
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, SHOP)
    assert "access-control-allow-origin" not in ask(pages, ended, origin="https://evil.example").headers
    assert ask(pages, signed(pages, time.time() + 60, secret=b"another")).status == 401


@pytest.mark.parametrize("changes", [{"expires_s": "1"}, {"session": None}, {"user_id": 9}, {"sha256": 5}])
def test_claims_of_another_type_are_no_token(pages: Door, changes: dict[str, Any]) -> None:
    """Another version may have signed them with the same secret."""
    assert ask(pages, signed(pages, time.time() + 60, **changes)).status == 401


def test_a_new_secret_of_the_gateway_ends_tokens_that_were_used(pages: Door) -> None:
    mine, file = token(pages), pages.settings.folder / TOKEN
    assert ask(pages, mine).status == 200
    file.write_bytes(b"new")
    await_status(pages, mine, 401)
    file.write_bytes(SECRET)
    await_status(pages, mine, 200)


def await_status(door: Door, key: str, status: int) -> None:
    """A worker reads the secret once a second."""
    deadline = time.monotonic() + 60
    while ask(door, key).status != status:
        assert time.monotonic() < deadline
        threading.Event().wait(0.3)  # below the rate of a session


def signed(door: Door, end_s: float, secret: bytes = SECRET, **changes: Any) -> str:
    (sha256,) = (key.sha256 for key in read_keys(door.settings.folder) if key.name == "page")
    claims = {"sha256": sha256, "expires_s": end_s, "session": f"visit-{end_s}"} | changes
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    mac = hmac.digest(secret, b"cesta page token 1\n" + payload, "sha256")
    return f"cestat.{payload.decode()}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def test_a_token_ends_with_its_key(pages: Door) -> None:
    folder = pages.settings.folder
    brief = add_key(folder, "brief", "browser", 100, origins=[SHOP])
    assert announce(folder)
    mine = token(pages, brief)
    assert ask(pages, mine).status == 200
    revoke_key(folder, "brief")
    assert announce(folder)
    assert ask(pages, mine).status == 401
    assert pages.ask("/v1/tokens", {}, key=brief).status == 401


def test_a_token_ends_with_the_secret_that_asked_for_it(pages: Door) -> None:
    """A rotation without overlap ends tokens of the old secret. A new key of the same name revives none."""
    folder = pages.settings.folder
    leaked = add_key(folder, "leaked", "browser", 100, origins=[SHOP])
    assert announce(folder)
    mine = token(pages, leaked)
    assert ask(pages, mine).status == 200
    rotated = rotate_key(folder, "leaked", overlap_s=0)
    assert announce(folder)
    assert ask(pages, mine).status == 401
    mine = token(pages, rotated)
    assert ask(pages, mine).status == 200
    revoke_key(folder, "leaked")
    add_key(folder, "leaked", "browser", 100, origins=[SHOP])
    assert announce(folder)
    assert ask(pages, mine).status == 401


def test_visitors_do_not_keep_the_shop_from_asking_for_tokens(pages: Door) -> None:
    """Neither by requests that never end nor by many of them."""
    folder = pages.settings.folder
    few = add_key(folder, "few", "browser", 5, origins=[SHOP], session_rate=100)
    assert announce(folder)
    head = (
        f"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nOrigin: {SHOP}\r\nContent-Type: application/json\r\n"
        "Content-Length: 9\r\nAuthorization: Bearer "
    )
    with contextlib.ExitStack() as held:
        for _ in range(9):
            mine = token(pages)
            for _ in range(4):
                slow = held.enter_context(pages.connect())
                slow.sendall(f"{head}{mine}\r\n\r\n{{".encode())
        mine = token(pages, few)
        while ask(pages, mine).status == 200:
            pass
        assert pages.ask("/v1/tokens", {}, key="page").status == 200
        assert pages.ask("/v1/tokens", {}, key=few).status == 200


def test_a_visitor_does_not_decide_what_is_traced(pages: Door, triton_of_pages: FakeTriton) -> None:
    sent = {"Origin": SHOP, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    assert pages.ask("/v1/recommend", ASK, key=token(pages), headers=sent).status == 200
    assert "traceparent" not in triton_of_pages.asked[-1].headers


@pytest.mark.parametrize("body", [b"[]", b"[1]", b"null", b'{"user_id": "901", "basket": ["i1"], "x": 1}'])
def test_a_token_makes_no_wrong_body_right(pages: Door, body: bytes) -> None:
    assert ask(pages, token(pages, user_id="900"), body).status == 400


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "an object such as"),
        ({"customer": "900"}, 'unknown key "customer"; known are user_id, session_id, lifetime_s'),
        ({"user_id": 900}, "user_id is a string of 1 to 128 bytes"),
        ({"user_id": ""}, "user_id is a string of 1 to 128 bytes"),
        ({"user_id": "x" * 129}, "user_id is a string of 1 to 128 bytes"),
        ({"session_id": "two words"}, "session_id is 1 to 128 printable"),
        ({"lifetime_s": 3601}, "lifetime_s is a number of 60 to 3600"),
        ({"lifetime_s": "60"}, "lifetime_s is a number of 60 to 3600"),
    ],
)
def test_a_wrong_wish_for_a_token_is_refused(pages: Door, body: Any, sentence: str) -> None:
    refused = pages.ask("/v1/tokens", body, key="page")
    assert refused.status == 400
    assert sentence in refused.body["error"]


@pytest.mark.parametrize(
    ("role", "about", "sentence"),
    [
        ("browser", {}, "has 1 to 20 origins; got 0"),
        ("browser", {"origins": ["http://shop.example"]}, '"http://shop.example" is no origin'),
        ("browser", {"origins": ["https://shop.example/"]}, "is no origin; write https://shop.example"),
        ("browser", {"origins": ["*"]}, '"\\*" is no origin'),
        ("browser", {"origins": [SHOP], "session_rate": 0}, "rate 0 is not 1 to"),
        ("shop", {"origins": [SHOP]}, "a key of the role shop has no origins"),
    ],
)
def test_the_origins_of_a_key_fit_its_role(
    tmp_path: Path, role: Any, about: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CestaError, match=sentence):
        add_key(tmp_path, "a", role, 50, **about)
    assert read_keys(tmp_path) == []
