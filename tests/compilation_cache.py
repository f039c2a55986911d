"""What JAX has compiled for a test, the others and their processes need not.

Imported before JAX is. The folder is that of a run: a process that a test kills
can leave half a program behind.
"""

import os
import tempfile

folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
