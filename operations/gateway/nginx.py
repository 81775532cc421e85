"""Runs nginx on the configuration of deploy/gateway: renders it, starts, reloads and stops nginx.

with Gateway(GatewaySettings(folder=Path("artifacts/gateway"))) as gateway:
    ...  # gateway.settings.http, gateway.settings.grpc
"""

import contextlib
import ipaddress
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from operations.address import split_address
from operations.errors import CestaError
from operations.gateway.control import (
    MAX_PATH_BYTES,
    control_socket,
    read_metrics,
    remove_stale_socket,
)
from operations.plain_path import plain_path
from operations.processes.listeners import check_free
from operations.processes.start_record import StartRecord
from operations.shipped import find_shipped

CONFIGURATION: Final = find_shipped("deploy") / "gateway"
_LIBRARIES = Path("/usr/lib")
_MODULES = ("nginx/modules/ngx_http_lua_module.so", "*/lua/5.1/cjson.so")
_RESOLV_CONF = Path("/etc/resolv.conf")
_INSTALL = "apt-get install nginx libnginx-mod-http-lua lua-cjson"
_VARIABLE = re.compile(r"\$\{([A-Z_]+)\}")
# The first two words appear once nginx has renamed itself.
_MASTER = re.compile(r"(?:nginx: master process )?\S*nginx .*?-c (.+?/conf/nginx\.conf)(?: |$)", re.DOTALL)
_START_S = 10


@dataclass(frozen=True)
class GatewaySettings:
    """Addresses are host:port. `folder` holds keys and split; its run/ holds the files of the process."""

    folder: Path
    http: str = "127.0.0.1:8080"
    grpc: str = "127.0.0.1:8081"
    triton_http: str = "127.0.0.1:8000"
    supervisor: str = "127.0.0.1:8003"
    certificate: Path | None = None  # PEM, with `certificate_key`: both ports then accept only TLS
    certificate_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()  # addresses and networks whose X-Forwarded-For is believed
    workers: int = 2
    # Share of requests that get a traceparent, 0.01% to 100%. A traceparent from a client is passed on.
    traced: str = "1%"
    log_level: str = "warn"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def access_log(self) -> Path:
        return self.run / "access.log"

    @property
    def error_log(self) -> Path:
        return self.run / "error.log"


def variables(settings: GatewaySettings) -> dict[str, str]:
    """Return the values of the templates' ${CAPITALS}; deploy/gateway/README.md lists them."""
    folder = _plain_folder(settings)
    return {
        "GATEWAY_USER": _user(),
        "GATEWAY_WORKERS": str(settings.workers),
        "GATEWAY_RUN": str(folder / settings.run.name),
        "GATEWAY_CONF": str(plain_path(CONFIGURATION)),
        "GATEWAY_STATE": str(folder),
        "GATEWAY_HTTP": settings.http,
        "GATEWAY_GRPC": settings.grpc,
        "GATEWAY_SSL": "ssl" if settings.certificate else "",
        "GATEWAY_CERTIFICATE": _plain_file(settings.certificate),
        "GATEWAY_CERTIFICATE_KEY": _plain_file(settings.certificate_key),
        "GATEWAY_TRACED": settings.traced,
        "GATEWAY_ACCESS_LOG": str(folder / settings.run.name / settings.access_log.name),
        "GATEWAY_ERROR_LOG": str(folder / settings.run.name / settings.error_log.name),
        "GATEWAY_LOG_LEVEL": settings.log_level,
        "GATEWAY_RESOLVER": read_resolver(_RESOLV_CONF),
        "GATEWAY_REAL_IP": " ".join(_real_ip(settings.trusted_proxies)),
        "TRITON_HTTP": settings.triton_http,
        "SUPERVISOR_HTTP": settings.supervisor,
    }


def _plain_folder(settings: GatewaySettings) -> Path:
    """Return the gateway's folder as nginx is told: in ASCII, and short enough for the control socket."""
    return plain_path(settings.folder, MAX_PATH_BYTES - len(f"/{control_socket(Path())}"))


def _plain_file(path: Path | None) -> str:
    return str(plain_path(path)) if path else ""


def _user() -> str:
    """Return the name of this process's user; nginx reads it only if that is root."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # such as the random user of a container
        return "nobody"


def render(settings: GatewaySettings) -> Path:
    """Fill in the templates in run/conf, as the image's envsubst does; return the main file."""
    values, target = variables(settings), settings.run / "conf"
    target.mkdir(parents=True, exist_ok=True)
    for template in CONFIGURATION.glob("*.template"):
        path = target / template.stem
        if path.name == "tls.ssl.conf" and not settings.certificate:
            path.unlink(missing_ok=True)
            continue
        text = _VARIABLE.sub(lambda variable: values[variable[1]], template.read_text())
        # On a full disk, nginx starts with what is there.
        if not path.exists() or path.read_bytes() != text.encode():
            path.write_text(text)
    return target / "nginx.conf"


def read_resolver(resolv_conf: Path) -> str:
    """Return the machine's first name server in nginx's spelling; if there is none, an unused address.

    nginx would ask several in turn, and not all need know the same names.
    """
    words = [line.split() for line in resolv_conf.read_text().splitlines()] if resolv_conf.exists() else []
    servers = [line[1] for line in words if line[:1] == ["nameserver"] and len(line) > 1]
    known = [server for server in servers if "%" not in server]  # nginx knows no zones of IPv6 addresses
    first = known[0] if known else "127.0.0.1"
    return f"[{first}]" if ":" in first else first


def _real_ip(trusted_proxies: Sequence[str]) -> list[str]:
    """Return a directive for each proxy. Raises CestaError if one is not an address or a network."""
    for proxy in trusted_proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            problem = f'"{proxy}" cannot be a trusted proxy ({error})'
            raise CestaError(f"{problem}; use an address, or a network such as 10.0.0.0/8") from None
    return [f"set_real_ip_from {proxy};" for proxy in trusted_proxies]


class Gateway:
    """An nginx that runs in the foreground as a child of this process."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._record = StartRecord(settings.run / "nginx.started", "a gateway", signal.SIGQUIT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise CestaError("the gateway was not started; use it in a with statement")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How nginx ended; None before its start and while it runs."""
        return self._process.poll() if self._process else None

    @property
    def log(self) -> Path:
        """nginx's own log."""
        return self.settings.error_log

    def clear(self) -> list[int]:
        """End the processes that a killed nginx has left on this folder, and return them.

        Raises CestaError if a gateway runs on it whose owner lives.
        """
        return self._record.clear()

    def start(self) -> None:
        """Start nginx and wait until both ports accept. nginx ends with the thread that starts it.

        Raises:
            CestaError: a port is taken, or nginx refuses to start; with nginx's own words.
        """
        self.clear()
        for address in (self.settings.http, self.settings.grpc):
            check_free(address)
        remove_stale_socket(self.settings.folder)
        render(self.settings)
        check(self.settings)
        run = self.settings.run.absolute()
        self._process = process = self._record.start(_command(self.settings, "-g", "daemon off;"), run)
        try:
            _await(lambda: process.poll() is not None or self._accepts(), _START_S, "accept connections")
            if process.poll() is not None:
                raise CestaError(f"nginx ended at once:\n{self._last_lines()}")
        except BaseException:
            self.stop()
            raise

    def reload(self, settings: GatewaySettings | None = None) -> None:
        """Apply other settings or a new certificate without dropping a request."""
        self.settings = settings or self.settings
        render(self.settings)
        reload(self.settings)

    def stop(self, grace_s: float = 10) -> None:
        """Let requests in flight finish, then stop nginx and what it left. Safe to call twice."""
        if self._process is None:
            return
        for number, wait_s in ((signal.SIGQUIT, grace_s), (signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            if self._process.poll() is None:
                self._process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(wait_s)
        self._record.clear_rest(self._process)

    def _accepts(self) -> bool:
        """Tell whether both ports accept and a worker answers. The master listens before it has workers."""
        ports = all(accepts(address) for address in (self.settings.http, self.settings.grpc))
        return ports and read_metrics(self.settings.folder) is not None

    def _last_lines(self) -> str:
        log = self.log
        return "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else ""


def reload(settings: GatewaySettings) -> bool:
    """Have this folder's nginx read its configuration and certificates again; return False if none runs.

    Returns when new workers answer. The old workers only finish their requests.

    Raises:
        CestaError: nginx refuses the files; the old ones stay in effect.
    """
    try:
        master = int((settings.run / "nginx.pid").read_text())
        if not _is_master(master, settings.run / "conf" / "nginx.conf"):
            return False
        before = _workers(master)
    except (OSError, ValueError):
        return False
    check(settings)
    os.kill(master, signal.SIGHUP)
    _await(
        lambda: bool(_workers(master) - before) and not _any_accepts(before),
        _START_S,
        "apply the new files",
    )
    return True


def check(settings: GatewaySettings) -> None:
    """Raise CestaError, with nginx's words, if nginx refuses its files."""
    done = subprocess.run(_command(settings, "-q", "-t"), capture_output=True, text=True)
    if done.returncode:
        raise CestaError(f"nginx refuses {settings.run / 'conf'}:\n{done.stderr.strip()}")


def find_nginx() -> str:
    """Return the path of nginx. Raises CestaError if nginx or one of its Lua modules is not installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    missing = [Path(name).name for name in _MODULES if not any(_LIBRARIES.glob(name))]
    if not program or missing:
        raise CestaError(f"{', '.join(missing if program else ['nginx'])} is not installed; {_INSTALL}")
    return program


def _command(settings: GatewaySettings, *options: str) -> list[str]:
    run = _plain_folder(settings) / settings.run.name
    files = ["-p", str(run), "-e", str(run / "error.log"), "-c", str(run / "conf" / "nginx.conf")]
    return [find_nginx(), *files, *options]


def _is_master(pid: int, configuration: Path) -> bool:
    """Tell whether the process is the nginx of this file. Others may reuse the pid of a killed nginx."""
    title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    master = _MASTER.match(title)
    return master is not None and configuration.samefile(master[1])


def _workers(master: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{master}/task/{master}/children").read_text().split()}


def _any_accepts(workers: set[int]) -> bool:
    """Tell whether a worker still accepts. nginx marks the others' process names with "shutting down"."""
    for worker in workers:
        with contextlib.suppress(OSError):
            if b"shutting down" not in Path(f"/proc/{worker}/cmdline").read_bytes():
                return True
    return False


def accepts(address: str) -> bool:
    """Tell whether a program accepts connections at host:port within a second."""
    with contextlib.suppress(OSError), socket.create_connection(split_address(address), timeout=1):
        return True
    return False


def _await(condition: Callable[[], bool], timeout_s: float, action: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise CestaError(f"nginx did not {action} within {timeout_s:g} s")
        time.sleep(0.01)
