"""Mounts: whether a folder is on a network file system, where locks can't be relied on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_NETWORK: Final = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "smb3", "smbfs", "fuse.ceph", "fuse.glusterfs", "fuse.rclone"),
        *("fuse.s3fs", "fuse.sshfs"),
    )
)


def network_mount(folder: Path, mounts: str) -> str | None:
    """The kind of network file system that a folder is on, if it is on one.

    Args:
        folder: an absolute path without symbolic links.
        mounts: the text of `/proc/self/mountinfo`.
    """
    best, found = -1, None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) < 5 or not rest:
            continue
        point = parts[4].encode().decode("unicode_escape")  # a blank stands there as \040
        if folder.is_relative_to(point) and len(point) >= best:
            kind = rest.split(" ")[0]
            best, found = len(point), kind if kind in _NETWORK else None
    return found
