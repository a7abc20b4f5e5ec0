"""URLs of objects on their way from the listing to the decoder: with what the listing says, and with their bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cnn_infer.stream import EndedError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cnn_infer.storage.read_ahead import ReadAhead


class ObjectURL(str):
    """The URL of an object from a listing, with what the listing says of it.

    Attributes:
        size: Bytes; None if the listing does not say.
        version: As :attr:`cnn_infer.storage.objects.Info.version`.
        failure: Why the folder at this URL could not be listed; None for an object.
    """

    size: int | None
    version: str
    failure: str | None

    def __new__(cls, url: str, size: int | None = None, version: str = "", failure: str | None = None) -> ObjectURL:
        """Return the URL with these attributes."""
        self = super().__new__(cls, url)
        self.size, self.version, self.failure = size, version, failure
        return self


class Pending(os.PathLike[str]):
    """An object whose bytes are being read. As a path it is its URL."""

    def __init__(self, url: str, future: Future[bytes], reads: ReadAhead, ticket: int) -> None:
        self._url = url
        self._future: Future[bytes] | None = future
        self._reads = reads
        self._ticket = ticket

    def __fspath__(self) -> str:
        return self._url

    def data(self, max_bytes: int) -> bytes:
        """Wait for the bytes and return them. They are not kept: a second call reads the object again.

        Raises:
            PictureError: the object cannot be read, or is larger than ``max_bytes``.
            EndedError: :meth:`ReadAhead.cancel` was called.
        """
        from concurrent.futures import CancelledError

        from cnn_infer.errors import InputError
        from cnn_infer.storage.failures import TooLargeError
        from cnn_infer.storage.read_ahead import picture_error, read_now

        future, self._future = self._future, None
        if future is None:
            return read_now(self._url, max_bytes)
        try:
            return future.result()
        except (InputError, TooLargeError) as error:
            raise picture_error(error, max_bytes) from error
        except CancelledError as error:
            raise EndedError from error
        finally:
            self._reads.release(self._ticket)
