"""Connections with object stores: credentials, endpoints, limits of time, and the words for their errors.

Credentials and endpoint come from the environment, under the names that the stores' own tools use.
"""

import configparser
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from operations.address import proxy_and_exceptions
from operations.errors import CestaError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSConfig, ObjectStore, RetryConfig, S3Config

EMULATOR: Final = "STORAGE_EMULATOR_HOST"
TIMEOUT_VARIABLE: Final = "CESTA_STORE_TIMEOUT_S"
TIMEOUT_S: Final = 10.0  # of silence, per try
RETRIES: Final = 3
WHOLE_REQUEST_S: Final = 600  # gigabytes on a slow line

ENVIRONMENT: Final = {  # scheme → the variables that an operator sets
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or a credentials file), AWS_REGION and AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the service account of this machine or pod",
    "memory": "nothing",
}


def connect(scheme: str, url: str) -> "ObjectStore":
    """A connection with time limits and retries; no request is made."""
    try:
        from obstore.store import GCSStore, MemoryStore, S3Store
    except ImportError:
        raise CestaError(f'{url} needs obstore; run pip install "cesta[stores]"') from None
    if scheme == "memory":
        return MemoryStore()
    _forget_empty_variables()
    client, retries = _client_options(scheme), _retries()
    if scheme == "gs":
        return GCSStore.from_url(url, config=_emulator(), client_options=client, retry_config=retries)
    return S3Store.from_url(url, config=_file_credentials(), client_options=client, retry_config=retries)


def _emulator() -> "GCSConfig":
    """The server of STORAGE_EMULATOR_HOST, as Google's own libraries read it; {} for Google's store."""
    address = os.environ.get(EMULATOR)
    if not address:
        return {}
    account = {"client_email": "", "private_key": "", "private_key_id": ""}
    endpoint = {"gcs_base_url": address if "://" in address else f"http://{address}", "disable_oauth": True}
    return {"service_account_key": json.dumps(account | endpoint)}


def _client_options(scheme: str) -> "ClientConfig":
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    silence = timedelta(seconds=_timeout_s())
    around = proxy_and_exceptions(endpoint) if scheme == "s3" else None
    proxy: ClientConfig = {"proxy_url": around[0], "proxy_excludes": around[1]} if around else {}
    return proxy | {
        "allow_http": endpoint.startswith("http://") if scheme == "s3" else EMULATOR in os.environ,
        "connect_timeout": silence,
        "read_timeout": silence,
        "timeout": timedelta(seconds=WHOLE_REQUEST_S),
    }


def _retries() -> "RetryConfig":
    return {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=_timeout_s()) * RETRIES,
        "backoff": {
            "init_backoff": timedelta(seconds=0.1),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }


def _forget_empty_variables() -> None:
    """Remove empty AWS_ variables: Compose sets an unset one to "", and obstore panics when it reads it."""
    for name in [name for name, value in os.environ.items() if name.startswith("AWS_") and not value]:
        del os.environ[name]


def _file_credentials() -> "S3Config":
    """The profile's credentials in AWS's credentials file.

    Returns {} if the environment has a key, or if there is no file. Containers get their secrets as such a
    file; tritonserver reads it, too.
    """
    path = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials")
    profile = os.environ.get("AWS_PROFILE", "default")
    file = configparser.ConfigParser()
    if os.environ.get("AWS_ACCESS_KEY_ID") or not path.exists():
        return {}
    try:
        file.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise CestaError(f"{path}: {error}; write it as AWS's tools do") from None
    credentials: S3Config = {}
    if value := file.get(profile, "aws_access_key_id", fallback=""):
        credentials["access_key_id"] = value
    if value := file.get(profile, "aws_secret_access_key", fallback=""):
        credentials["secret_access_key"] = value
    if value := file.get(profile, "aws_session_token", fallback=""):
        credentials["session_token"] = value
    return credentials


def _timeout_s() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, str(TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if seconds <= 0:
        raise CestaError(f"{TIMEOUT_VARIABLE}={text}: write seconds, such as {TIMEOUT_S:g}")
    return seconds


def reason(error: Exception, scheme: str) -> str:
    """The store's message without the library's internals, and the way out."""
    from obstore import exceptions

    message = str(error).partition("\n\nDebug source")[0]
    variables = ENVIRONMENT[scheme]
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return f"the store refuses these credentials; look at {variables}, and whether they may write"
    if "NoSuchBucket" in message:
        return "no such bucket; create it, or name another"
    if "kind: Timeout" in str(error):
        return f"the store is silent ({TIMEOUT_VARIABLE}={_timeout_s():g}); try again, or look at {variables}"
    if "kind: Connect" in str(error):
        return f"the store cannot be reached; look at {variables}, and whether it runs"
    return f"{' '.join(message.split())[:300]}; try again, or look at {variables}"
