"""The token that clients need when the server can be reached from other machines."""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket
import stat
from pathlib import Path

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.settings import ServerSettings
from tsuzuku.core.workspace import Workspace, sync_folder

FILE_NAME = "server-token"
SHORTEST = 16
LONGEST = 1024


class TokenError(TsuzukuError):
    """The file with the token cannot be trusted or read."""

    code = "bad_token_file"


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine only.

    A name counts if everything it resolves to is loopback. `""`, `0.0.0.0` and `::` mean every
    interface, and do not.
    """
    host = host.strip().removeprefix("[").removesuffix("]")
    if not host:
        return False
    try:
        return _is_loopback_ip(host)
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(_is_loopback_ip(str(address[0])) for *_, address in found)


def _is_loopback_ip(text: str) -> bool:
    ip = ipaddress.ip_address(text)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def token_for(workspace: Workspace, settings: ServerSettings, host: str) -> tuple[str | None, bool]:
    """The token a server bound to `host` asks for, and whether it was made just now.

    The configured one; else none for a loopback address; else the one in `outputs/server-token`,
    which is made when it is not there. Raises TokenError if that file is not the owner's alone.
    """
    if settings.token:
        return settings.token, False
    if is_loopback(host):
        return None, False
    path = workspace.outputs / FILE_NAME
    try:
        return _read(path), False
    except FileNotFoundError:
        pass
    made = secrets.token_urlsafe(32)
    if _create(path, made):
        return made, True
    return _read(path), False  # another server was faster


def _read(path: Path) -> str:
    try:
        # O_NONBLOCK: a pipe of that name must not hold the server up
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise _refused(path, "is a symbolic link") from None
        raise TokenError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        _check_owner(path, os.fstat(fd))
        content = os.read(fd, LONGEST + 1)
    finally:
        os.close(fd)
    token = content.decode("ascii", "replace").strip()
    if not (SHORTEST <= len(token) <= LONGEST and token.isascii() and token.isprintable()):
        raise _refused(path, "holds no token")
    return token


def _check_owner(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise _refused(path, "is not a regular file")
    if state.st_uid != os.geteuid():
        raise _refused(path, "belongs to another user")
    if state.st_mode & 0o077:
        raise TokenError(
            f"{path} may be read or written by others (mode {state.st_mode & 0o777:o}).",
            "They may know the token by now: delete the file to have a new one made, "
            f"or `chmod 600 {path}`.",
        )


def _create(path: Path, token: str) -> bool:
    """Write the file, whole or not at all; False if it is there already."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(fd)
        try:
            os.link(temporary, path)  # unlike a rename, never replaces what is there
        except FileExistsError:
            return False
    except OSError as error:
        raise TokenError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _refused(path: Path, why: str) -> TokenError:
    return TokenError(f"{path} {why}.", "Delete it to have a new one made.")
