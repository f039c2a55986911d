"""Files that are whole, or as they were."""

import os


def write_whole(path, write):
    """Writes beside a file, then moves what is written in its place.

    Args:
        path: A `pathlib.Path`.
        write: Function of the path to write to; it keeps the suffix.
    """
    part = path.with_name(f"part.{path.name}")
    try:
        write(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
