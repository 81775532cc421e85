"""Google Cloud Storage's XML API in front of an emulator that speaks its JSON API and knows no conditions.

The environment of moto runs this file: it prints its address. Objects lie in gcp-storage-emulator. This door
keeps what Google documents and the emulator lacks: the condition on an object's generation (0: there is
none), decided between two writers at the same moment; uploads in parts; listings; metadata in headers.
"""

import itertools
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from gcp_storage_emulator.server import create_server

from operations.processes.free_ports import bind_free_port

CONDITION, GENERATION, METADATA = "x-goog-if-generation-match", "x-goog-generation", "x-goog-meta-"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
BOUNDARY = "part-of-the-door"


class Answer(NamedTuple):
    """A response: status, body, headers."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - it is only read


class Emulator:
    """The emulator's JSON API."""

    def __init__(self) -> None:
        with socket.socket() as free:
            port = bind_free_port(free, "127.0.0.1")
        create_server("127.0.0.1", port, in_memory=True).start()
        self._address = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        request = urllib.request.Request(self._address + path, body, {"Content-Type": kind}, method=method)
        with DIRECT.open(request, timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def find(self, bucket: str, key: str) -> dict[str, Any] | None:
        """The record of an object; None if there is none."""
        try:
            found: dict[str, Any] = json.loads(self.ask("GET", place(bucket, key)))
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None
        return found

    def put(self, bucket: str, key: str, content: bytes, metadata: dict[str, str]) -> dict[str, Any]:
        """Write an object; its record."""
        about = json.dumps({"name": key, "metadata": metadata}).encode()
        head = f"--{BOUNDARY}\r\nContent-Type: application/json\r\n\r\n".encode()
        then = f"\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        body = head + about + then + content + f"\r\n--{BOUNDARY}--".encode()
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
        written = self.ask("POST", path, body, f"multipart/related; boundary={BOUNDARY}")
        found: dict[str, Any] = json.loads(written)
        return found

    def names(self, bucket: str, prefix: str) -> list[dict[str, Any]]:
        """The records of all objects whose names start so, in the order of their names."""
        listed = json.loads(self.ask("GET", f"/storage/v1/b/{bucket}/o?prefix={quote(prefix, safe='')}"))
        found: list[dict[str, Any]] = listed["items"]
        return found


class Door:
    """The XML API."""

    def __init__(self) -> None:
        self._emulator = Emulator()
        self._one_writer = threading.Lock()
        self._uploads: dict[str, tuple[dict[str, str], dict[int, bytes]]] = {}  # headers, parts
        self._numbers = itertools.count()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        try:
            return self._answer(method, bucket, key, query, headers, body)
        except urllib.error.HTTPError as error:
            code = "NoSuchBucket" if error.code == 404 else "InternalError"
            return Answer(error.code, f"<Error><Code>{code}</Code></Error>".encode())

    def _answer(
        self, method: str, bucket: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        if not key:
            if method == "PUT":
                self._emulator.ask("POST", "/storage/v1/b", json.dumps({"name": bucket}).encode())
                return Answer(200)
            return self._list(bucket, query)
        if method in ("GET", "HEAD"):
            return self._read(bucket, key, headers.get("range", ""))
        if method == "DELETE":
            if self._emulator.find(bucket, key) is None:
                return missing()
            self._emulator.ask("DELETE", place(bucket, key))
            return Answer(204)
        if "uploads" in query:
            upload = f"upload-{next(self._numbers)}"
            self._uploads[upload] = headers, {}
            return xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
        if "partNumber" in query:
            number = int(query["partNumber"])
            self._uploads[query["uploadId"]][1][number] = body
            return Answer(200, headers={"ETag": f'"{number}"'})
        if method == "POST":
            first, sent = self._uploads.pop(query["uploadId"])
            numbers = map(int, re.findall(rb"<PartNumber>(\d+)</PartNumber>", body))
            content = b"".join(sent[number] for number in numbers)
            answer = self._write(bucket, key, {**first, **headers}, content)
            tag = escape(answer.headers.get("ETag", ""))
            return xml("CompleteMultipartUploadResult", f"<ETag>{tag}</ETag>", answer.headers)
        return self._write(bucket, key, headers, body)

    def _write(self, bucket: str, key: str, headers: dict[str, str], content: bytes) -> Answer:
        metadata = {
            name.removeprefix(METADATA): value for name, value in headers.items() if name.startswith(METADATA)
        }
        with self._one_writer:
            if (wanted := headers.get(CONDITION)) is not None:
                before = self._emulator.find(bucket, key)
                if wanted != (before["generation"] if before else "0"):
                    return Answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            record = self._emulator.put(bucket, key, content, metadata)
        return Answer(200, headers=described(record))

    def _read(self, bucket: str, key: str, wanted: str) -> Answer:
        record = self._emulator.find(bucket, key)
        if record is None:
            return missing()
        content = self._emulator.ask("GET", f"{place(bucket, key)}?alt=media")
        headers = described(record)
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted):
            first, last = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return Answer(206, content[first : last + 1], headers)
        return Answer(200, content, headers)

    def _list(self, bucket: str, query: dict[str, str]) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        contents, folders = "", set()
        for record in self._emulator.names(bucket, prefix):
            below = record["name"].removeprefix(prefix)
            if delimiter and delimiter in below:
                folders.add(prefix + below.partition(delimiter)[0] + delimiter)
                continue
            contents += (
                f"<Contents><Key>{escape(record['name'])}</Key><Size>{record['size']}</Size>"
                f"<LastModified>{record['updated']}</LastModified><ETag>{escape(tag(record))}</ETag></Contents>"
            )
        contents += "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)
        )
        return xml("ListBucketResult", contents)


def described(record: dict[str, Any]) -> dict[str, str]:
    """The headers that tell about an object. The emulator's clock is this machine's."""
    written_s = int(record["generation"]) / 1e9
    metadata = {f"{METADATA}{name}": value for name, value in (record.get("metadata") or {}).items()}
    moment = formatdate(written_s, usegmt=True)
    return {"ETag": tag(record), GENERATION: record["generation"], "Last-Modified": moment, **metadata}


def tag(record: dict[str, Any]) -> str:
    return f'"{record["etag"]}"'


def place(bucket: str, key: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}"


def missing() -> Answer:
    return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")


def xml(name: str, content: str, headers: dict[str, str] = {}) -> Answer:  # noqa: B006 - it is only read
    return Answer(200, f"<{name}>{content}</{name}>".encode(), {**headers, "Content-Type": "application/xml"})


def main() -> None:
    door = Door()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def log_message(self, *_: Any) -> None:
            pass

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = door.answer(self.command, self.path, headers, body)
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            self.wfile.flush()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815 - http.server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"Running on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
