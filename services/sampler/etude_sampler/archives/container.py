"""The files of an archive, in a folder or in one tar: written aside, then moved into place.

Memory is bounded: a part is one compressed file, written and read in pieces. A tar is plain, since
its parts are compressed; each is written beside it first, because tar wants to know its size.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .manifest import MANIFEST, ArchiveFault, Manifest, PartEntry, part_file

_PIECE = 1 << 20
_LEVEL = 3
MAX_MANIFEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """A finished part."""

    num_bytes: int
    sha256: str


class ArchiveWriter:
    """Writes the parts one after the other, then the manifest. Made by `writing`."""

    def __init__(self, folder: Path, tar: tarfile.TarFile | None) -> None:
        self._folder = folder
        self._tar = tar

    @contextmanager
    def open_part(self, table: str) -> Iterator[gzip.GzipFile]:
        """A file to write a table's lines to; `close_part` ends it."""
        path = self._folder / part_file(table)
        with (
            path.open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, compresslevel=_LEVEL, mtime=0) as file,
        ):
            yield file

    def close_part(self, table: str) -> Written:
        """Measure a written part and put it into the archive."""
        path = self._folder / part_file(table)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        if self._tar is not None:
            self._add(path)
            path.unlink()
        return Written(size, digest)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest."""
        path = self._folder / MANIFEST
        path.write_bytes(manifest.to_bytes())
        if self._tar is not None:
            self._add(path)

    def _add(self, path: Path) -> None:
        assert self._tar is not None
        entry = tarfile.TarInfo(path.name)
        entry.size, entry.mode = path.stat().st_size, 0o600
        with path.open("rb") as file:
            self._tar.addfile(entry, file)


@contextmanager
def writing(target: Path) -> Iterator[ArchiveWriter]:
    """A new archive: a tar if the name ends in `.tar`, else a folder; complete or not there.

    Raises:
        ArchiveFault: something of that name is there, or it cannot be written.
    """
    if target.exists():
        raise ArchiveFault(f"{target} is there already")
    if not target.parent.is_dir():
        raise ArchiveFault(f"there is no folder {target.parent}")
    aside = target.with_name(f"{target.name}.partial-{os.getpid()}")
    try:
        aside.mkdir(mode=0o700)
        if target.suffix == ".tar":
            whole = aside / "archive.tar"
            with tarfile.open(whole, "w", format=tarfile.PAX_FORMAT) as tar:
                yield ArchiveWriter(aside, tar)
            whole.chmod(0o600)
            _sync(whole)
            whole.rename(target)
        else:
            yield ArchiveWriter(aside, None)
            for path in aside.iterdir():
                _sync(path)
            aside.rename(target)
    except OSError as error:
        raise ArchiveFault(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class Archive:
    """An archive that is read. Made by `opened`."""

    def __init__(self, find: Callable[[str], AbstractContextManager[IO[bytes]]]) -> None:
        self._find = find
        with _faults(MANIFEST), find(MANIFEST) as file:
            data = file.read(MAX_MANIFEST + 1)
        if len(data) > MAX_MANIFEST:
            raise ArchiveFault(f"{MANIFEST} is damaged: too large")
        self.manifest = Manifest.from_bytes(data)

    def verify(self, part: PartEntry, on_bytes: Callable[[int], None]) -> None:
        """Compare a part with the manifest, byte by byte.

        Raises:
            ArchiveFault: it is missing, shorter, longer, or not the same.
        """
        hashed, size = hashlib.sha256(), 0
        with _faults(part.file), self._find(part.file) as file:
            while piece := file.read(_PIECE):
                hashed.update(piece)
                size += len(piece)
                on_bytes(len(piece))
        if size != part.num_bytes:
            raise ArchiveFault(f"{part.file} holds {size} bytes instead of {part.num_bytes}")
        if hashed.hexdigest() != part.sha256:
            raise ArchiveFault(f"{part.file} is damaged: its digest does not match")

    def lines(self, part: PartEntry) -> Iterator[bytes]:
        """A part's lines, in pieces of any size."""
        with (
            _faults(part.file),
            self._find(part.file) as file,
            gzip.GzipFile(fileobj=file) as lines,
        ):
            while piece := lines.read(_PIECE):
                yield piece


@contextmanager
def _faults(name: str) -> Iterator[None]:
    """Turn what damaged files raise into one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArchiveFault(f"the archive has no {name}: truncated, or not an archive") from error
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ArchiveFault(f"{name} is truncated or damaged: {error}") from error
    except OSError as error:
        raise ArchiveFault(f"cannot read {name}: {error.strerror or error}") from error


@contextmanager
def _tar(source: Path) -> Iterator[tarfile.TarFile]:
    with _faults(source.name):
        tar = tarfile.open(source, "r:*")  # noqa: SIM115 - closed below
    with tar:
        yield tar


@contextmanager
def opened(source: Path) -> Iterator[Archive]:
    """An archive in a folder or a tar.

    Raises:
        ArchiveFault: there is none, or its manifest is damaged or of a newer format.
    """
    if source.is_dir():
        yield Archive(lambda name: (source / name).open("rb"))
        return
    if not source.is_file():
        raise ArchiveFault(f"there is no archive {source}")
    with _tar(source) as tar:

        @contextmanager
        def find(name: str) -> Iterator[IO[bytes]]:
            try:
                found = tar.extractfile(name)
            except KeyError as error:
                raise FileNotFoundError(name) from error
            if found is None:
                raise FileNotFoundError(name)
            with found:
                yield found

        yield Archive(find)
