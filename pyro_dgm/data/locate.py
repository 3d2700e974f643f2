"""The search for data files."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..checks import shown

VARIABLE = "PYRO_DGM_DATA"
"""The environment variable that names the folder of data files."""


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder of data files: `data_dir`, else the environment variable PYRO_DGM_DATA, else None.

    Raises:
        ValueError: `data_dir` is no path.

    >>> data_folder("somewhere").name
    'somewhere'
    """
    if data_dir is not None and (not isinstance(data_dir, str | os.PathLike) or data_dir == ""):
        raise ValueError(f"data_dir got {shown(data_dir)}; expected the path of a folder")
    folder = data_dir if data_dir is not None else os.environ.get(VARIABLE) or None
    return None if folder is None else Path(folder).expanduser()


def find(files: Sequence[str], folders: Sequence[Path], origin: str) -> Path:
    """The path of the first of `files` that exists, in the first of `folders` that has any of them.

    Args:
        files: the names that the file may have.
        folders: the folders to look in, in order.
        origin: a sentence that says where to get the file.

    Raises:
        FileNotFoundError: there is none; the message names files, folders, the setting to change, and the origin.
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
