"""`compiled_setup.py GROUP TARGET SOURCE...`: have mypyc compile sources into a folder; run from their root.

A process of its own: mypyc and setuptools change what they are in. What the sources import from elsewhere is not
looked at, so it may be anything at runtime, and the compiler takes a fifth of the time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mypyc.build import mypycify
from setuptools import Distribution

FLAGS = ("--config-file=", "--follow-imports=skip", "--ignore-missing-imports", "--cache-dir=/dev/null")


def main(group: str, target: str, sources: list[str]) -> None:
    """Leave the extension modules of `sources` in `target`, folders as in the sources', their code in one library."""
    with TemporaryDirectory() as scratch:
        modules = mypycify(
            [*FLAGS, *sources], group_name=group, target_dir=str(Path(scratch) / "c"), opt_level="3", debug_level="0"
        )
        made = Distribution({"name": "sessions", "ext_modules": modules})
        command = made.get_command_obj("build_ext")
        command.build_lib, command.build_temp = target, str(Path(scratch) / "o")
        made.run_command("build_ext")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
