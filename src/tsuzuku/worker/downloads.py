"""What an entry of a plug-in's `DOWNLOADS` says: which files, where from, how they are checked."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic import model_validator as validated

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+")]


class DownloadFile(BaseModel):
    """One file: its exact size in bytes and its SHA-256, or its MD5 where that is all we have."""

    model_config = ConfigDict(extra="forbid")

    name: FileName
    size: int = Field(gt=0)
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")] | None = None
    urls: list[Url] = []
    """Complete addresses, asked before the `mirrors`."""
    unpack: bool = False
    """The archive (zip, or tar, however compressed) becomes a folder named after it."""
    unpacked_size: int = Field(default=0, ge=0)
    """The most bytes that it may unpack to."""
    max_members: int = Field(default=200_000, gt=0)

    @validated(mode="after")
    def _is_checkable(self) -> Self:
        if not (self.sha256 or self.md5):
            raise ValueError("needs sha256 or md5")
        if self.unpack and not self.unpacked_size:
            raise ValueError("needs unpacked_size to be unpacked")
        if self.name.endswith((".part", ".from")):
            raise ValueError("must not end with .part or .from")
        return self

    @property
    def checksum(self) -> str:
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"

    @property
    def folder(self) -> str:
        """The folder that the archive is unpacked to: its name without endings."""
        stem = re.sub(r"(\.tar)?\.(gz|bz2|xz|tgz|tar|zip)$", "", self.name)
        return stem if stem != self.name else f"{stem}.unpacked"


class Download(BaseModel):
    """An entry of `DOWNLOADS`: a folder in the workspace, the files, and who has them all."""

    model_config = ConfigDict(extra="forbid")

    path: str
    files: list[DownloadFile] = Field(min_length=1)
    mirrors: list[Url] = []
    """Base addresses, asked in this order for `<base>/<file>`."""

    @validated(mode="after")
    def _names_differ(self) -> Self:
        names = [f.name for f in self.files] + [f.folder for f in self.files if f.unpack]
        if len(set(names)) < len(names):
            raise ValueError("two files, or the folders they unpack to, have the same name")
        return self
