"""Text without names: what goes into logs and reports may tell nobody who a picture is of.

Names of files and folders are often those of patients. What is left out is told apart from what stays by rules that
rather take a word too many: of a sentence about a file, its reason stays.
"""

from __future__ import annotations

import errno
import getpass
import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LEAST, LEAST_DIGITS = 3, 5
"""Letters, or digits, of a name that is looked for: a shorter one would be found in half of all sentences."""
_ENDINGS = "png|jpe?g|tiff?|nii|gz|dcm|dicom|ima|zarr|semigda|npy|json|jsonl|csv|zip|txt|safetensors|previous|damaged"
_REASONS = sorted({os.strerror(number) for number in errno.errorcode}, key=len, reverse=True)
_CODE = re.compile(r'"[^"\n]*?((?:site-packages|napari_semigda|lib[\\/]python[\d.]+)[\\/][^"\n]*\.pyx?)"')
_QUOTED = re.compile(r"""(["'])(?!<code>)[^"'\n]*[\\/][^"'\n]*\1""")
_PATH = re.compile(r"(?:(?<=[\s(\[=:,])|^)(?:[A-Za-z]:|~)?(?:[\\/](?=[^\s\\/])|\\\\).*", re.MULTILINE)
_FILE = re.compile(rf"[^\n:;]*\.({_ENDINGS})\b", re.IGNORECASE)


class Redactor:
    """Takes names out of text."""

    def __init__(self) -> None:
        self._names: set[str] = set()  # in lower case
        with suppress(OSError, KeyError):
            self.hide([str(Path.home()), getpass.getuser(), socket.gethostname()])

    def hide(self, names: Iterable[str]) -> None:
        """Leave these out from now on: names of files with and without their endings, of folders, of layers."""
        for name in names:
            for each in (name, name.split(".", maxsplit=1)[0], Path(name).stem):
                if len(each) >= (LEAST_DIGITS if each.isdecimal() else LEAST):
                    self._names.add(each.lower())

    def knows(self, word: str) -> bool:
        """Whether a whole word is one of the names."""
        return word.lower() in self._names

    def __call__(self, text: str) -> str:
        """`text` without names and paths; places in program code stay, from the package on."""
        code: list[str] = []

        def keep(found: re.Match[str]) -> str:
            code.append(found[1])
            return f'"<code>{len(code) - 1}"'

        text = _CODE.sub(keep, text)
        lower = text.lower()  # of ten thousand names few are in it: one pattern of all would take seconds
        if known := sorted((re.escape(name) for name in self._names if name in lower), key=len, reverse=True):
            text = re.sub(rf"(?<!\w)(?:{'|'.join(known)})(?!\w)", "<name>", text, flags=re.IGNORECASE)
        text = _QUOTED.sub("<path>", text)
        text = _PATH.sub(_without_path, text)
        text = _FILE.sub(r" <file>.\1", text)
        return re.sub(r'"<code>(\d+)"', lambda found: f'"{code[int(found[1])]}"', text)


def ending_of(name: str) -> str:
    """What kind of file it is, ``"PNG"``; the ending of a file that has none may be half of somebody's name."""
    ending = Path(name).suffix[1:]
    return ending.upper() if re.fullmatch(_ENDINGS, ending, re.IGNORECASE) else "other"


def _without_path(found: re.Match[str]) -> str:
    """Nobody knows where an unquoted path ends: all of the line goes, but for what the system gave as reason."""
    reasons = [reason for reason in _REASONS if reason in found[0]]
    return "<path>" + (f" ({reasons[0]})" if reasons else "")
