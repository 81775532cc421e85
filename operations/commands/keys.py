"""`cesta keys`: the keys that the gateway accepts."""

import re
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs
from operations.terminal import PlainConsole

if TYPE_CHECKING:
    from operations.gateway.keys import Key

UNITS_S: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
MOST_DAYS: Final = 3650

GATEWAY = Outputs(ARTIFACTS).gateway

app = typer.Typer(no_args_is_help=True, add_completion=False)

Folder = Annotated[Path, typer.Option(help="The gateway's folder with keys.json.")]
Name = Annotated[str, typer.Argument(help="1 to 32 of a-z, 0-9 and -; it names the key in logs and metrics.")]


class Role(StrEnum):
    shop = "shop"
    admin = "admin"
    browser = "browser"
    events = "events"
    explain = "explain"
    stock = "stock"


@app.callback()
def keys() -> None:
    """Keys of the gateway: add, list, change, rotate and revoke them.

    \b
    The usual day:
      cesta keys add webshop --rate 200   prints the key, once
      cesta keys add ops --role admin     this key may promote and roll back, too
      cesta keys list                     names, roles, rates; never the keys
      cesta keys rate webshop 50          gives this key another rate
      cesta keys expire webshop 90d       it ends in 90 days; "never" lifts that
      cesta keys rotate webshop           prints a new secret; the old one works for a week
      cesta keys end-rotation webshop     refuses the old secret now
      cesta keys revoke webshop           the gateway refuses this key from now on

    Make one key for each shop or service. keys.json in the gateway's folder
    holds only hashes. A change is active when the command returns. It drops no
    request. A key can be revoked on a full disk; to add one needs room.
    """


@app.command()
def add(
    name: Name,
    role: Annotated[
        Role,
        typer.Option(
            help="shop may ask for recommendations; admin may change releases, too; "
            "browser only makes tokens for pages; events only reports purchases; "
            "explain only asks why an answer is as it is; stock only changes the stock."
        ),
    ] = Role.shop,
    rate: Annotated[int, typer.Option(help="Requests per second; a burst may hold as many again.")] = 50,
    expires: Annotated[str, typer.Option(help="When it ends: 90d, 12h, 30m, or never.")] = "never",
    origin: Annotated[
        list[str] | None, typer.Option(help="browser: https://… of a page that tokens serve; repeatable.")
    ] = None,
    session_rate: Annotated[
        int | None, typer.Option(help="browser: requests per second of one visitor.", show_default="5")
    ] = None,
    folder: Folder = GATEWAY,
) -> None:
    """Make a key and print it. It cannot be shown again."""
    from operations.gateway.keys import add_key

    end = _end(expires)
    secret = add_key(folder, name, role.value, rate, end, origins=origin or (), session_rate=session_rate)
    print(secret, flush=True)  # before it is announced: if that fails, the key is not lost
    _apply(folder)


@app.command("list")
def list_(folder: Folder = GATEWAY) -> None:
    """List names, roles, rates, ends and the first digits of each key's SHA-256."""
    from operations.gateway.keys import read_keys

    table = Table("key", "role", "requests/s", "created at", "expires", "sha256")
    for key in read_keys(folder):
        cells = (key.name, key.role, str(key.rate), key.created_at, _told_end(key), key.sha256[:12])
        table.add_row(*cells)
        if key.has_old_secret():
            table.add_row("", "", "", "old secret", _utc(key.old_expires_s), (key.old_sha256 or "")[:12])
    PlainConsole().print(table)


@app.command()
def rate(
    name: Name,
    rate: Annotated[int, typer.Argument(help="Requests per second; a burst may hold as many again.")],
    folder: Folder = GATEWAY,
) -> None:
    """Give a key another rate. Its owner keeps the key."""
    from operations.gateway.keys import change_rate

    change_rate(folder, name, rate)
    _apply(folder)
    print(f'the key "{name}" may send {rate} requests per second')


@app.command()
def expire(
    name: Name,
    after: Annotated[str, typer.Argument(help="When it ends: 90d, 12h, 30m, or never.")],
    folder: Folder = GATEWAY,
) -> None:
    """Have a key end after a time. Its owner keeps the key."""
    from operations.gateway.keys import change_expiry

    end = _end(after)
    change_expiry(folder, name, end)
    _apply(folder)
    print(f'the key "{name}" never expires' if end is None else f'the key "{name}" expires at {_utc(end)}')


@app.command()
def rotate(
    name: Name,
    overlap: Annotated[str, typer.Option(help="How long the old secret still works: 7d, 12h, 0s.")] = "7d",
    folder: Folder = GATEWAY,
) -> None:
    """Give a key a new secret and print it. The old secret works until the overlap ends."""
    from operations.gateway.keys import rotate_key

    secret = rotate_key(folder, name, _seconds(overlap))
    print(secret, flush=True)  # before it is announced: if that fails, the secret is not lost
    _apply(folder)


@app.command("end-rotation")
def end_rotation_(name: Name, folder: Folder = GATEWAY) -> None:
    """Refuse the old secret of a rotated key from now on."""
    from operations.gateway.keys import end_rotation

    had_one = end_rotation(folder, name)
    _apply(folder)
    print(f'the old secret of the key "{name}" ' + ("is refused" if had_one else "had ended already"))


@app.command()
def revoke(name: Name, folder: Folder = GATEWAY) -> None:
    """Revoke a key: the gateway answers its requests with 401 from now on."""
    from operations.errors import KeyKept
    from operations.gateway.control import forget_kept
    from operations.gateway.keys import revoke_key

    try:
        revoke_key(folder, name)
    except KeyKept as kept:
        raise CestaError(forget_kept(folder, name, kept)) from None
    _apply(folder)
    print(f'the key "{name}" is revoked')


def _end(after: str) -> int | None:
    """Return the Unix time after a time span from now; None for "never"."""
    return None if after == "never" else int(time.time()) + _seconds(after)


def _seconds(span: str) -> int:
    match = re.fullmatch(r"(\d{1,8})([dhms])", span)
    seconds = int(match[1]) * UNITS_S[match[2]] if match else -1
    if not 0 <= seconds <= MOST_DAYS * UNITS_S["d"]:
        raise CestaError(f'"{span}" is no time of 0s to {MOST_DAYS}d; write 90d, 12h, 30m or 45s')
    return seconds


def _told_end(key: "Key") -> str:
    if key.expires_s is None:
        return "never"
    return f"{_utc(key.expires_s)}{' (expired)' if key.has_expired() else ''}"


def _utc(time_s: int | None) -> str:
    from operations.gateway.keys import utc

    return "" if time_s is None else utc(time_s)


def _apply(folder: Path) -> None:
    """Have the gateway read the keys; print a note if none answers here."""
    from operations.gateway.control import announce

    if not announce(folder):
        typer.echo(
            "no gateway answers on this folder; one that runs elsewhere applies the change within a second, "
            "any other when it starts",
            err=True,
        )
