"""Splits for corpora without a table: the same on every machine, and one split for all versions of a piece."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

SPLITS = ("train", "validation", "test")


def split_by_hash(names: Iterable[str]) -> dict[str, str]:
    """Assign each name to a split (80, 10 and 10 %) by its hash, with the same result on every machine.

    With three names or more, a split that would stay empty gets one of them. Fewer names are all for training.
    """
    numbers = {name: int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()) / 2**256 for name in names}
    if len(numbers) < 3:
        return dict.fromkeys(numbers, "train")
    splits = {name: _split_of(number) for name, number in numbers.items()}
    if len(set(splits.values())) < 3:
        test, validation, *_, train = sorted(numbers, key=numbers.get)
        splits |= {test: "test", validation: "validation", train: "train"}
    return splits


def _split_of(number: float) -> str:
    """Return the split of a hash between 0 and 1."""
    if number < 0.1:
        return "test"
    return "validation" if number < 0.2 else "train"


def group_versions(contents: dict[str, str]) -> dict[str, str]:
    """Return the name of each file's group. The files of a group are versions of one piece.

    Parameters
    ----------
    contents : dict of str to str
        The hash of each file's content by name. Files with the same content are one group. So are the files of a
        folder that is named like them (POP909: ``001/001.mid``, ``001/versions/001-v1.mid``).
    """
    groups = {name: _song_folder(name) or name for name in sorted(contents)}
    first: dict[str, str] = {}
    for name, content in sorted(contents.items()):
        same = first.setdefault(content, groups[name])
        if same != groups[name]:  # merge the two groups
            old = groups[name]
            groups = {each: same if group == old else group for each, group in groups.items()}
    return groups


def _song_folder(name: str) -> str | None:
    """Return the nearest parent folder whose name is a prefix of the file name, or None."""
    path = PurePosixPath(name)
    for folder in reversed(path.parts[:-1]):
        if re.match(rf"{re.escape(folder)}(\b|_)", path.stem, re.IGNORECASE):
            return folder
    return None
