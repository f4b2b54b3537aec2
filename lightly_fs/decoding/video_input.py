"""What PyAV reads a video from: errors are kept, and not printed."""

from __future__ import annotations

import io


class VideoInput:
    """A file object whose errors end the file, and are told to who asks for them.

    PyAV raises what a file object raised only if FFmpeg does not read again before it returns; else
    it prints the exception. FFmpeg often reads again.

    Attributes:
        error: What was raised first; nothing is read after it.
    """

    def __init__(self, handle: io.RawIOBase) -> None:
        self._handle = handle
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        """Return the next bytes; none at the end and after an error."""
        if self.error is None:
            try:
                return bytes(self._handle.read(size) or b"")
            except Exception as error:  # noqa: BLE001 - raised where it can be, by who decodes
                self.error = error
        return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, and return the position; -1 after an error."""
        if self.error is None:
            try:
                return self._handle.seek(offset, whence)
            except Exception as error:  # noqa: BLE001 - see above
                self.error = error
        return -1

    def tell(self) -> int:
        return self._handle.tell() if self.error is None else -1

    def close(self) -> None:
        self._handle.close()
