"""Start `tier` again in Python's UTF-8 mode where the locale has another encoding."""

import os
import sys


def restart_in_utf8_mode() -> None:
    """Replace the process by the same command in UTF-8 mode, unless it runs in this mode or a UTF-8 locale.

    Names in tables are Unicode, names of files are bytes, and the locale's encoding stands between them:
    under ASCII or Latin-1 a table that names `Zürich.png` would not find the file of this name, whose bytes
    are UTF-8 on practically every disk. Encoding every path by hand would not help, as libraries open files
    too (HDF5, safetensors, pandas); only the interpreter can decide, and only at its start. So the process is
    replaced, with the same arguments byte for byte and the same process number. UTF-8 mode keeps bytes that
    are not UTF-8, so no name is lost. The output keeps the locale's encoding, as the terminal shows it.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.environ["PYTHONUTF8"] = "1"  # for Python processes that this one starts
    # The option holds also where the interpreter ignores its variables (-E, -I): there is one restart only.
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
