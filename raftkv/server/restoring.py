"""What is done to a data directory without a node: `raftkv snapshot restore` makes one, `raftkv defrag --data-dir` rewrites its state.

From a saved snapshot to the data directory of a member of a new cluster: everything is made under another name beside it, and takes its own in one rename: a crash before leaves a hidden directory that
nobody will start a node on, and no data directory.

What may not live here: what is in the file (`raftkv.statemachine.restoring`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from raftkv.config import ServerConfig
from raftkv.errors import DataDirError
from raftkv.statemachine import Bootstrap, StateMachine
from raftkv.statemachine.restoring import restore_state
from raftkv.statemachine.snapshot import disk_errors, sync_directory
from raftkv.storage import DataDir, Identity


def restore(path: Path, config: ServerConfig, *, skip_hash_check: bool = False) -> Identity:
    """Make `config.data_dir` from the snapshot in `path`; the member is then started with the same flags.

    Raises:
        DataDirError: the data directory exists, or cannot be made.
        CorruptionError: the snapshot is truncated, altered, or none of raftkv's.
        ConfigError: the new cluster would be taken for the old one.
        StorageError: the disk.
    """
    target = config.data_dir
    if os.path.lexists(target):
        raise DataDirError(f'data-dir "{target}" exists')
    identity = Identity(config.cluster_id, config.member_id, config.name)
    bootstrap = Bootstrap(
        cluster_id=config.cluster_id, members=config.initial_members(), membership=config.initial_membership()
    )
    parent = target.absolute().parent
    with disk_errors(f"make the data directory {target}"):
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.restoring-", dir=parent))
        try:
            data_dir = DataDir.open(scratch, create=identity)
            try:
                restore_state(path, data_dir.state_path, bootstrap, skip_hash_check=skip_hash_check)
            finally:
                data_dir.close()
            scratch.rename(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        sync_directory(parent)
    return identity


def defragment_data_dir(path: Path) -> None:
    """Give the free pages of a data directory's state back to the file system. No node may use it meanwhile.

    Raises:
        DataDirError: in use, or no data directory.
        CorruptionError, DiskFullError, StorageError: nothing has changed.
    """
    if not path.is_dir():
        raise DataDirError(f"{path} is not a data directory of raftkv: there is none")
    data_dir = DataDir.open(path, create=None)
    try:
        machine = StateMachine.open(data_dir.state_path)
        try:
            machine.defragment()
        finally:
            machine.close()
    finally:
        data_dir.close()
