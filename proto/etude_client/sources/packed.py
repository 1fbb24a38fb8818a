"""Files packed by gzip or zstd, as their bytes; told by their first bytes. Used by `files`."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from etude_proto.rows.stream import DatasetUnusable

if TYPE_CHECKING:
    import zstandard
    from _typeshed import WriteableBuffer

EXTRA = "pip install 'etude-proto[files]'"
"""What Parquet and zstd need; the sampler has both."""

PIECE_BYTES = 2**17

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def is_packed(magic: bytes) -> bool:
    """Whether a file that begins so is packed."""
    return magic[:2] == _GZIP_MAGIC or magic == _ZSTD_MAGIC


def unpacked(path: Path, magic: bytes, plain: Callable[[Path], IO[bytes]]) -> IO[bytes]:
    """The file's bytes, those of an archive unpacked; `plain` opens it as it is.

    Raises:
        DatasetUnusable: it cannot be opened, or what unpacks it is not installed.
    """
    if magic[:2] == _GZIP_MAGIC:
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if magic != _ZSTD_MAGIC:
        return plain(path)
    try:
        import zstandard
    except ImportError as error:
        raise DatasetUnusable(f"{path} is packed with zstd; to read it: {EXTRA}") from error
    frames = _Zstd(plain(path), lambda: zstandard.ZstdDecompressor().decompressobj())
    return cast("IO[bytes]", io.BufferedReader(frames, 2**20))


def damages() -> tuple[type[Exception], ...]:
    """What reading a damaged file raises."""
    known: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
    try:
        import zstandard
    except ImportError:
        return known
    return (*known, zstandard.ZstdError)


class _Zstd(io.RawIOBase):
    """Frames of zstd, one after the other. The library's own reader takes a frame that was cut
    short for a whole one, and rows would be missing without a word."""

    def __init__(
        self, file: IO[bytes], new_frame: Callable[[], zstandard.ZstdDecompressionObj]
    ) -> None:
        self._file, self._new_frame = file, new_frame
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._left = b""
        self._made = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """The next bytes; 0 at the end of a last, whole frame.

        Raises:
            EOFError: the last frame is cut short.
        """
        view = memoryview(buffer).cast("B")
        while not self._made:
            packed = self._left or self._file.read(PIECE_BYTES)
            self._left = b""
            if not packed:
                if self._frame is not None:
                    raise EOFError("the file is cut short")
                return 0
            self._unpack(packed)
        part, self._made = self._made[: len(view)], self._made[len(view) :]
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """The file too."""
        self._file.close()
        super().close()

    def _unpack(self, packed: bytes) -> None:
        frame = self._frame or self._new_frame()
        self._made = frame.decompress(packed)
        self._frame = None if frame.eof else frame
        self._left = frame.unused_data if frame.eof else b""
