"""Reads a checkpoint file, whose format is detected by its first bytes."""

import os
import zipfile

from keras_adaad.zoo.files.budget import Budget
from keras_adaad.zoo.files.budget import Refused
from keras_adaad.zoo.files.numpy import read_npy
from keras_adaad.zoo.files.numpy import read_npz
from keras_adaad.zoo.files.pytorch import read_legacy
from keras_adaad.zoo.files.pytorch import read_zip
from keras_adaad.zoo.files.safetensors import is_safetensors
from keras_adaad.zoo.files.safetensors import read_safetensors

_BY_HAND = (
    "Open its address in a browser, download the file itself, and pass the "
    "path where you saved it."
)


def read(path):
    """Reads a checkpoint as data; nothing in it is ever executed.

    The format is detected from the first bytes, not from the name: PyTorch's
    `.pt` and `.pth` of any version, `.safetensors`, `.npz`, `.npy`, and pickles
    of NumPy arrays. Neither PyTorch nor the safetensors package is needed.

    Returns nested dicts, lists, tuples and numbers, with tensors as read-only
    NumPy arrays. If the format allows, they are mapped into memory from the
    file, and cost nothing until used. bfloat16 becomes float32. Objects that
    are not data, such as an `argparse.Namespace`, become placeholders.

    Raises `ValueError` if the file is not a checkpoint, is damaged, holds
    anything that would have to be executed, or would take far more memory than
    its size.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        raise ValueError(
            f"Argument `path` must be one file. Received: the folder {path!r}"
        )
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(512)
    try:
        return _reader(path, head, size)(path, Budget(size))
    except Refused as refusal:
        raise ValueError(f"The file {path!r} {refusal}") from None
    except Exception as error:
        # Wrong bytes can fail anywhere in the parsers, with any error.
        raise ValueError(
            f"The file {path!r} is damaged or cut off: {size} bytes were "
            "received. Download it again. "
            f"({type(error).__name__}: {error})"
        ) from error


def is_web_page(head):
    """Returns whether a file that starts with `head` is an HTML page."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _reader(path, head, size):
    if head.startswith(b"PK"):
        return _zip_reader(path, size)
    if head.startswith(b"\x93NUMPY"):
        return read_npy
    if head.startswith(b"\x80"):
        return read_legacy
    if is_safetensors(head, size):
        return read_safetensors
    raise Refused(_not_a_checkpoint(head))


def _zip_reader(path, size):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise Refused(
            f"is cut off: its first {size} bytes are there, and the directory "
            "that ends a zip is not. Download it again."
        ) from None
    if any(name.endswith("data.pkl") for name in names):
        return read_zip
    if all(name.endswith(".npy") for name in names):
        return read_npz
    raise Refused(
        "is a zip, and neither PyTorch's nor NumPy's. If it is an archive "
        f"with a checkpoint in it, unpack it first. It holds {names[:5]}"
    )


def _not_a_checkpoint(head):
    if not head:
        return "is empty. Download it again."
    if is_web_page(head):
        return (
            "is a web page: the host answered with it instead of the file, as "
            "Google Drive does when a quota is used up or a sign-in is "
            f"needed. {_BY_HAND}"
        )
    if head.startswith(b"version https://git-lfs"):
        return (
            "is a pointer of Git LFS, which stands for the file. Run "
            "`git lfs pull` in its repository."
        )
    if head[257:262] == b"ustar":
        return (
            "is a tar archive. Unpack it and pass the checkpoint in it. If "
            "PyTorch 0.1 wrote it, load it with PyTorch and save it again."
        )
    return (
        "is of no known format. Save the weights with PyTorch, safetensors or "
        f"`np.savez`. Its first bytes are {head[:8]!r}"
    )
