"""The address of a repository in the form that tritonserver reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from operations.errors import ServerError
from operations.plain_path import plain_path

_PORTS = {"http": 80, "https": 443}


def triton_url(repository: Path | str, environment: Mapping[str, str] = os.environ) -> str:
    """Return `s3://bucket/prefix` with `AWS_ENDPOINT_URL` in it: `s3://https://host:port/bucket/prefix`.

    Other S3 tools read the endpoint from the environment; tritonserver reads it only from the URL. Another
    scheme, and S3 without an endpoint, which is Amazon's, stay unchanged. A folder becomes its `plain_path`.
    """
    text = str(repository)
    if "://" not in text:
        return str(plain_path(Path(text)))
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if not text.startswith("s3://") or text.startswith(("s3://http://", "s3://https://")) or not endpoint:
        return text
    try:
        parts = urlsplit(endpoint)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        parts, port = urlsplit(""), 0
    if not parts.hostname or parts.path.strip("/"):
        raise ServerError(f"AWS_ENDPOINT_URL={endpoint}: write it as https://host or http://host:port")
    if ":" in parts.hostname:
        raise ServerError(
            f"AWS_ENDPOINT_URL={endpoint}: tritonserver reads no IPv6 address there; write a name"
        )
    return f"s3://{parts.scheme}://{parts.hostname}:{port}/{text.removeprefix('s3://')}"
