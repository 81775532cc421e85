"""What keys, placements and tokens of pages cost in a worker of the gateway, in µs of CPU.

python -m tests.gateway.cost_of_callers

Each is a compiled loop within one nginx, which asks nobody. So the figures hold no network and no Triton.
"""

from __future__ import annotations

import http.client
import tempfile
from pathlib import Path

from operations.gateway.control import TOKEN, announce
from operations.gateway.keys import add_key
from operations.gateway.nginx import reload
from tests.running.door import Door, open_door

LOOPS = r"""
location = /loops {
    content_by_lua_block {
        local context, identity, limits = require("context"), require("identity"), require("limits")
        local page = {name = "page", session = "visit", session_rate = 1e9}

        local function time(name, loops, work)
          for _ = 1, 2000 do work() end
          local began_s = os.clock()
          for _ = 1, loops do work() end
          ngx.say(string.format("| %s | %.2f |", name, (os.clock() - began_s) / loops * 1e6))
        end

        local function send(name, value) ngx.req.set_header(name, value) end

        time("look up a key, its end included", 50000, identity.caller)
        local function label() return context.labels("shop") end

        time("neither placement nor variant is sent", 50000, label)
        send("X-Placement", "cart")
        send("X-Variant", "b")
        time("placement and variant are sent: the labels of their count", 50000, label)
        send("Authorization", "Bearer " .. ngx.var.arg_token)
        assert(identity.caller().user_id == "900")
        time("look up a token that this worker has seen", 50000, identity.caller)
        send("Authorization", "Bearer " .. ngx.var.arg_token:sub(1, -2) .. "_")
        assert(not identity.caller())
        time("check a token that it has not seen", 20000, identity.caller)
        time("a page's session: its requests in flight, and its rate", 50000, function()
          limits.leave(limits.enter(page))
          limits.session(page)
        end)
    }
}
"""


def main() -> None:
    """Print a row for each loop."""
    with tempfile.TemporaryDirectory() as folder:
        door = open_door(Path(folder), triton_http="127.0.0.1:9", supervisor="127.0.0.1:9", workers=1)
        try:
            print(_time_loops(door))
        finally:
            door.gateway.stop()


def _time_loops(door: Door) -> str:
    folder = door.settings.folder
    (folder / TOKEN).write_text("only the gateway knows")
    key = add_key(folder, "page", "browser", 1000, origins=["https://shop.example"])
    announce(folder)
    configuration = door.settings.run / "conf" / "nginx.conf"
    text = configuration.read_text()
    configuration.write_text(text.replace("location @items {", f"{LOOPS}\nlocation @items {{", 1))
    reload(door.settings)
    token = door.ask("/v1/tokens", {"user_id": "900"}, key=key).body["token"]
    connection = http.client.HTTPConnection(door.settings.http, timeout=120)
    connection.request(
        "GET", f"/loops?token={token}", headers={"Authorization": f"Bearer {door.keys['shop']}"}
    )
    return connection.getresponse().read().decode()


if __name__ == "__main__":
    main()
