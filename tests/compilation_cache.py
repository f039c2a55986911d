"""What JAX has compiled for a test, the others and their processes need not.

Imported before JAX is. `make` names a folder that stays between runs. Without
it the folder is that of a run. The workers of pytest-xdist share it: they
inherit the environment of the process that starts them.

A process that a test kills can leave half a program behind. JAX warns of it,
and compiles the program anew; see `filterwarnings` in `pyproject.toml`.
"""

import os
import tempfile

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
