"""What failed at a store of objects: whether another attempt may succeed, and the reason in plain words."""

from __future__ import annotations

import errno

from cnn_infer.errors import InputError
from cnn_infer.storage.urls import shown

TRANSIENT = frozenset([408, 425, 429, 500, 502, 503, 504])
"""HTTP status codes after which another attempt may succeed; 503 is also S3's SlowDown."""

_BROKEN = frozenset(
    [
        "ClientError",
        "HTTPClientError",
        "IncompleteReadError",
        "ResponseParserError",
        "IncompleteRead",
        "TimeoutError",
        "ConnectionError",
    ]
)
"""Names of the base classes of aiohttp, botocore and urllib3 for broken connections and timeouts."""

_CLIENTS = _BROKEN | {"BotoCoreError", "HTTPError", "HttpError", "HttpProcessingError", "GoogleAuthError", "AzureError"}
"""Names of the base classes of what the clients of stores raise: also of urllib3, gcsfs, google-auth and adlfs."""

_INVALID = frozenset(["ParamValidationError", "ValueError"])
"""Names of the classes of errors that say that the URL is not valid: of botocore, and of all others."""

_DISK_FULL = frozenset([errno.ENOSPC, errno.EDQUOT])
_NO_CREDENTIALS = frozenset(["NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"])
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError, ValueError)


class StorageError(InputError):
    """An object or a folder in a store cannot be read, listed or written.

    Attributes:
        reason: Why, without the URL.
        missing: Whether there is no such object, folder or bucket.
    """

    def __init__(self, url: str, reason: str, *, missing: bool = False) -> None:
        super().__init__(shown(url), reason)
        self.reason = reason
        self.missing = missing

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.reason}"


def reason_of(error: InputError) -> str:
    """Return why an object or a folder cannot be used, without its URL where it is known apart."""
    return error.reason if isinstance(error, StorageError) else str(error)


class TooLargeError(Exception):
    """An object has more bytes than allowed."""


def status_of(error: BaseException) -> tuple[int | None, str]:
    """Return the HTTP status of an error and the code of the store such as ``SlowDown``; None and "" if unknown."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status, "" if code.isdigit() else code
    # of aiohttp's errors only answers have a status, and of all others that have a code only gcsfs's is an HTTP status
    value = getattr(error, "code" if type(error).__name__ == "HttpError" else "status", None)
    if isinstance(value, int):
        return value, ""
    return (None, "") if error.__cause__ is None else status_of(error.__cause__)


def is_of_store(error: BaseException) -> bool:
    """Whether an error is one of a request. All others are of this machine, such as a full disk, or of the program."""
    if isinstance(error, OSError):
        return error.errno not in _DISK_FULL
    return isinstance(error, (EOFError, ValueError)) or bool(_names(error) & _CLIENTS)


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    if _mistake(error) is not None:
        return False
    status, _ = status_of(error)
    if status is not None:
        return status in TRANSIENT
    if isinstance(error, _PERMANENT) or "Certificate" in type(error).__name__ or _names(error) & _NO_CREDENTIALS:
        return False
    return isinstance(error, (OSError, EOFError)) or bool(_names(error) & _BROKEN)


def failure(url: str, error: BaseException, attempts: int) -> StorageError:
    """Return the error to raise. Its text has no part of the store's answer but the code: that may quote credentials.

    Args:
        url: The object or folder.
        error: What fsspec raised.
        attempts: How often it was tried.
    """
    if (mistake := _mistake(error)) is not None:
        return StorageError(url, mistake)
    status, code = status_of(error)
    tried = f", after {attempts} attempts" if attempts > 1 else ""
    if code == "NoSuchBucket":
        return StorageError(url, "there is no such bucket", missing=True)
    if status in (404, 410) or (status is None and isinstance(error, FileNotFoundError)):
        return StorageError(url, "there is no such object or folder", missing=True)
    if _names(error) & _NO_CREDENTIALS:
        return StorageError(url, "no credentials found (for a public bucket of S3, set FSSPEC_S3_ANON=true)")
    if isinstance(error, PermissionError) or status in (401, 403):
        which = ", ".join([f"HTTP {status}"] * (status is not None) + [code] * bool(code))
        return StorageError(url, f"access is denied{which and f' ({which})'}: check the credentials and their rights")
    if status is not None:
        return StorageError(url, f"the server answered HTTP {status}{code and f' ({code})'}{tried}")
    if _names(error) & _INVALID and not isinstance(error, OSError):
        return StorageError(url, "not a valid URL")
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return StorageError(url, f"the server did not answer in time{tried}")
    cause = getattr(error, "os_error", error)
    detail = getattr(cause, "strerror", None) or type(error).__name__
    return StorageError(url, f"the connection failed ({detail}){tried}")


def _mistake(error: BaseException) -> str | None:
    """What is wrong with a setting of this machine, or with a server that is none for pictures; None for the rest."""
    names = _names(error)
    if "ProfileNotFound" in names:
        return "the profile that AWS_PROFILE names is not in the configuration files of AWS"
    if "EndpointResolutionError" in names or (type(error) is ValueError and "Invalid endpoint" in str(error)):
        return "AWS_ENDPOINT_URL is no address of a server, such as http://127.0.0.1:9000"
    if "TooManyRedirects" in names:
        return "the server redirects in a circle"
    if "RedirectClientError" in names:
        return "the server redirects to an address that is not valid or not of a web server"
    if "ClientResponseError" in names and error.__cause__ and "HttpProcessingError" in _names(error.__cause__):
        return "the answer is not HTTP"
    return None


def _names(error: BaseException) -> set[str]:
    return {base.__name__ for base in type(error).__mro__}
