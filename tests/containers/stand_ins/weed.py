#!/opt/moto/venv/bin/python
"""What docker-compose.yml and docs/operations.md ask of SeaweedFS's `weed`, answered by moto.

weed server -s3 -s3.config=FILE …                # S3 on port 8333, for the keys in FILE
echo "s3.bucket.create -name NAME" | weed shell
"""

import json
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PORT = 8333


def main() -> None:
    """Run the verb."""
    verb, *words = sys.argv[1:]
    options = dict(word.removeprefix("-").partition("=")[::2] for word in words)
    if verb == "server" and "s3" in options:
        serve(Path(options["s3.config"]), options["s3.ip.bind"])
    elif verb == "shell":
        for line in sys.stdin:
            name, _, bucket = line.strip().partition(" -name ")
            if name != "s3.bucket.create":
                sys.exit(f"no {line.strip()} in this stand-in")
            create_bucket(bucket, Path("/run/secrets/registry_keys"))
    else:
        sys.exit(f"no weed {verb} {words} in this stand-in")


def read_keys(path: Path) -> list[str]:
    """Return the access keys of a file of identities."""
    identities = json.loads(path.read_text())["identities"]
    return [pair["accessKey"] for identity in identities for pair in identity["credentials"]]


def serve(keys: Path, host: str) -> None:
    """Serve until a signal. Only requests that name one of the keys reach moto, which checks no signature."""
    from moto.moto_server.werkzeug_app import (  # type: ignore[import-not-found]  # only in the image
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import run_simple

    moto: Callable[..., Iterable[bytes]] = DomainDispatcherApplication(create_backend_app)
    allowed = [f"Credential={key}/" for key in read_keys(keys)]

    def answer(request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if request["PATH_INFO"] == "/healthz":
            start("200 OK", [])
            return []
        if not any(key in request.get("HTTP_AUTHORIZATION", "") for key in allowed):
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InvalidAccessKeyId</Code></Error>"]
        return moto(request, start)

    tempfile.tempdir = "/data"  # moto keeps large objects there
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # for a container's first process
    run_simple(host, PORT, answer, threaded=True, request_handler=MotoRequestHandler)


def create_bucket(name: str, keys: Path) -> None:
    """Create a bucket in the server of this container."""
    signed = f"AWS4-HMAC-SHA256 Credential={read_keys(keys)[0]}/20260101/us-east-1/s3/aws4_request, "
    headers = {"Authorization": f"{signed}SignedHeaders=host, Signature=0"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/{name}", None, headers, method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20)
    print(f"created bucket {name}")


if __name__ == "__main__":
    main()
