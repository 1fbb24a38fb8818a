"""What an archive says of itself: `manifest.json`, the last file of a tar, the first to be read.

The seal is a digest of the manifest without it, and the manifest holds a digest of every part; so
no byte of an archive can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT_VERSION = 1
"""Raised when an older Etude could not read the archive. New columns and tables do not raise it:
whoever does not know them says so by name."""
MANIFEST = "manifest.json"
_NAME = r"^[a-z_][a-z0-9_]*$"


class ArchiveFault(Exception):
    """An archive that cannot be written, read or trusted; one sentence."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PartEntry(_Part):
    """One file with the rows of one table, gzip, a line a row, columns separated by tabs."""

    table: str = Field(pattern=_NAME, max_length=63)
    columns: list[str] = Field(min_length=1, max_length=500)
    num_rows: int = Field(ge=0)
    num_bytes: int = Field(ge=0)
    """Of the file."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the file, as `sha256sum` prints it."""

    @property
    def file(self) -> str:
        """Its name in the archive."""
        return part_file(self.table)


class Manifest(_Part):
    """The archive of one run."""

    format: Literal["etude-run"] = "etude-run"
    format_version: int = FORMAT_VERSION
    etude_version: str
    schema_revision: str
    """Of the database it was written from."""
    created_at: datetime
    run_id: str
    run_name: str
    policy_version: int
    dataset_id: str
    dataset_name: str
    dataset_created_at: datetime
    num_tasks: int = Field(ge=0)
    dataset_digest: str
    """SHA-256 of the task ids in order."""
    statistics_digest: str
    """SHA-256 of every bit of the run's statistics."""
    parts: list[PartEntry]
    log_is_complete: bool = True
    """False: Redis did not answer, so decisions that were not drained are not in it. Written only
    then: an archive with all its decisions says nothing of them, as the first ones did."""

    def _content(self) -> dict[str, object]:
        left_out = {"log_is_complete"} if self.log_is_complete else set()
        return self.model_dump(mode="json", exclude=left_out)

    def seal(self) -> str:
        """SHA-256 of all of it; names the archive."""
        return hashlib.sha256(_canonical(self._content())).hexdigest()

    def to_bytes(self) -> bytes:
        """The file's content."""
        content = {**self._content(), "seal": self.seal()}
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read and check it.

        Raises:
            ArchiveFault: damaged, of a newer format, or not a manifest.
        """
        try:
            content = json.loads(data)
        except ValueError as error:
            raise ArchiveFault(f"{MANIFEST} is damaged: not JSON") from error
        if not isinstance(content, dict) or content.get("format") != "etude-run":
            raise ArchiveFault(f"{MANIFEST} is not that of a run's archive")
        version = content.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ArchiveFault(
                f"the archive has format {version}, written by Etude "
                f"{content.get('etude_version')}; this version reads up to {FORMAT_VERSION}: "
                "upgrade Etude"
            )
        seal = content.pop("seal", None)
        try:
            manifest = cls.model_validate(content)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise ArchiveFault(f"{MANIFEST} is damaged: {where}") from error
        if seal != hashlib.sha256(_canonical(content)).hexdigest():
            raise ArchiveFault(f"{MANIFEST} is damaged: its seal does not match")
        tables = [part.table for part in manifest.parts]
        if len(set(tables)) != len(tables) or not {"runs", "tasks"} <= set(tables):
            raise ArchiveFault(f"{MANIFEST} does not name the parts of a run")
        return manifest


def part_file(table: str) -> str:
    """Name of a table's file in an archive."""
    return f"{table}.tsv.gz"


def _canonical(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
