"""Finding data files."""

import os
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "PYRO_DGM_DATA"


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder of data files: `data_dir`, else the environment variable PYRO_DGM_DATA, else None.

    >>> data_folder("somewhere").name
    'somewhere'
    """
    chosen = data_dir if data_dir is not None else os.environ.get(VARIABLE) or None
    return None if chosen is None else Path(chosen).expanduser()


def find(files: Sequence[str], folders: Sequence[Path], origin: str) -> Path:
    """The first of `files` that exists in the first of `folders` that has one.

    Args:
        files: names that the file may have.
        folders: where to look, in order.
        origin: a sentence that says where the file may be had.

    Raises:
        FileNotFoundError: naming files, folders, the setting to change, and the origin.
    """
    for folder in folders:
        for file in files:
            if (folder / file).is_file():
                return folder / file
    looked = "in " + ", ".join(f"{folder}{'' if folder.is_dir() else ' (no such folder)'}" for folder in folders)
    raise FileNotFoundError(
        f"No file {' or '.join(files)}: looked {looked if folders else 'nowhere, as no data folder was given'}. "
        f"Say where data files lie with --data-dir (argument data_dir) or the environment variable {VARIABLE}. {origin}"
    )
