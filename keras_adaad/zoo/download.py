"""Downloads checkpoints: resumes, verifies, and explains failures."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from typing import Any

import keras

from keras_adaad.version import __version__
from keras_adaad.zoo.files.reader import is_web_page

_CHUNK = 2**20
_TIMEOUT = 60.0  # Seconds without a byte.

# `confirm=t` skips the page that warns of files too large to scan.
_DRIVE_FILE = (
    "https://drive.usercontent.google.com/download"
    "?id={id}&export=download&confirm=t"
)
_DRIVE_PAGE = "https://drive.google.com/file/d/{id}/view"


def download(url, path, sha256=None, size=None, page=None):
    """Downloads a file, and moves it to `path` once it is complete.

    The data goes to `path + ".part"`. If the download is interrupted, this file
    is kept, and the next call asks the host only for the rest. An existing file
    is not downloaded again, only verified. If the download fails, an `OSError`
    says how to get the file by hand, from `page` if given, or else `url`.
    """
    path = os.fspath(path)
    if os.path.exists(path):
        if problem := _mismatch(path, sha256, size):
            raise OSError(
                f"The file {path!r} is there and {problem}. Move it away to "
                "have it downloaded again."
            )
        return path
    part = path + ".part"
    try:
        os.makedirs(os.path.dirname(part) or ".", exist_ok=True)
        _fetch_all(url, part)
        if problem := _mismatch(part, sha256, size):
            os.remove(part)
            raise OSError(f"what arrived {problem}")
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"Could not download {url}: {error}. Download it by hand from "
            f"{page or url} and save it as {path!r}, or pass the place where "
            "you saved it as `checkpoint`."
        ) from error
    os.replace(part, path)
    return path


def download_from_drive(gdrive_id, path, sha256=None, size=None):
    """Downloads a public file of Google Drive, like `download`."""
    url = _DRIVE_FILE.format(id=gdrive_id)
    page = drive_page(gdrive_id)
    return download(url, path, sha256=sha256, size=size, page=page)


def download_entry(entry, path):
    """Downloads the file of a registry entry, like `download`.

    Prefers the address of the authors, because Google Drive limits how often a
    file can be downloaded per day.
    """
    if entry["download_url"]:
        # The checksum in the registry is that of the file at Drive.
        return download(entry["download_url"], path)
    return download_from_drive(
        entry["gdrive_id"], path, sha256=entry["sha256"], size=entry["size"]
    )


def address(entry):
    """Returns the address of a registry entry's file, for a browser."""
    return entry["download_url"] or drive_page(entry["gdrive_id"])


def drive_page(gdrive_id):
    """Returns the address of a Google Drive file, for a browser."""
    return _DRIVE_PAGE.format(id=gdrive_id)


def _fetch_all(url, part):
    """Requests the rest of a file as long as each request makes progress."""
    while True:
        before = _size(part)
        try:
            total = _fetch(url, part)
        except (OSError, http.client.HTTPException):
            if _size(part) > before:
                continue
            raise
        if total is None or _size(part) >= total:
            return
        if _size(part) <= before:
            raise ConnectionError(
                f"the host stops after {_size(part)} of {total} bytes"
            )


def _fetch(url, part):
    """Appends the data of one request to `part`; returns the file's size.

    The size is `None` if the host does not state it.
    """
    have = _size(part)
    try:
        response = _open(url, have)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        total: Any = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):
            return have
        os.remove(part)  # It belongs to another file.
        have = 0
        response = _open(url, have)
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # The host sends the whole file.
        length = response.headers["Content-Length"]
        total = None if length is None else have + int(length)
        progress = keras.utils.Progbar(total, interval=0.5, unit_name="byte")
        chunk = response.read(_CHUNK)
        if have == 0 and is_web_page(chunk):
            raise ConnectionError(
                "the host answered with a web page, for a sign-in or a quota "
                "perhaps"
            )
        with open(part, "ab" if have else "wb") as file:
            while chunk:
                file.write(chunk)
                have += len(chunk)
                progress.update(have)
                chunk = response.read(_CHUNK)
    return total


def _open(url, start):
    headers = {"User-Agent": f"keras-adaad/{__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def _mismatch(path, sha256, size):
    """Returns how a file differs from what is expected, or `None`."""
    received = os.path.getsize(path)
    if size is not None and received != size:
        return f"has {received} bytes instead of {size}"
    if sha256 is not None:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256.lower():
            return f"has the SHA-256 {digest} instead of {sha256}"
    return None
