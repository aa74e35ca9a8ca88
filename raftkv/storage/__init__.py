"""storage"""

from __future__ import annotations

from raftkv.storage.data_dir import DataDir, Identity
from raftkv.storage.files import OS_FILES, FileSystem, OsFileSystem
from raftkv.storage.wal import Recovered, Wal, WalOptions
from raftkv.storage.writer import WalStats, WalWriter

__all__ = [
    "OS_FILES",
    "DataDir",
    "FileSystem",
    "Identity",
    "OsFileSystem",
    "Recovered",
    "Wal",
    "WalOptions",
    "WalStats",
    "WalWriter",
]
