"""Files of a few kilobytes that stand for gigabytes, or for hours."""

import io
import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

import keras_adaad
from keras_adaad.zoo import architecture
from keras_adaad.zoo import files

pytestmark = pytest.mark.once


def nested(pair, opcodes, depth=60):
    """A pickle of one pair, of which each holds the one before twice."""
    levels = b"".join(
        b"h" + bytes([i]) + b"h" + bytes([i]) + pair + b"q" + bytes([i + 1])
        for i in range(depth)
    )
    return b"\x80\x02)q\x00" + levels + opcodes + b"."


def references_in_tuples():
    return nested(b"\x86", b"")


def references_in_a_key():
    """Hashing a tuple takes as long as printing it."""
    return nested(b"\x86", b"}h\x3cK\x01s")


def references_in_frozensets(depth=50):
    """Two equal towers, which Python compares floor by floor."""
    content = b"\x80\x04"
    for base in (0, 2 * depth + 2):
        content += b"(K\x00\x91q%c(K\x01\x91q%c" % (base, base + 1)
        for low in range(base, base + 2 * depth, 2):
            content += b"(h%ch%c\x91q%c" % (low, low + 1, low + 2)
            content += b"(h%c\x91q%c" % (low, low + 3)
    return content + b"(h%ch%c\x91." % (2 * depth, 4 * depth + 2)


def copies_of_a_list():
    """A call that copies ten thousand items, ten thousand times."""
    one = b"c__builtin__\nlist\nq\x01(" + b"N" * 10_000 + b"lq\x02"
    return b"\x80\x02" + one + b"](" + b"h\x01h\x02\x85R" * 10_000 + b"e."


def a_length_of_16_gigabytes():
    return b"\x80\x04\x8e" + struct.pack("<Q", 2**34) + b"."


def a_bytearray_of_16_gigabytes():
    return b"\x80\x05\x96" + struct.pack("<Q", 2**34) + b"."


def a_tuple_that_is_a_key_again_and_again():
    """Each time Python visits its two million items."""
    return nested(b"\x86", b"}" + b"h\x14Ns" * 10_000, depth=20)


def tuples_that_are_keys(write):
    """Tuples of one hash would take the square of the time."""
    keys = (pickle.dumps((i, i), 2)[2:-1] for i in range(2_000))
    return b"\x80\x02" + write([key.replace(b"q\x00", b"") for key in keys])


def keys_of_a_dict():
    return tuples_that_are_keys(
        lambda keys: b"}(" + b"".join(key + b"N" for key in keys) + b"u."
    )


def keys_one_by_one():
    return tuples_that_are_keys(
        lambda keys: b"}" + b"".join(key + b"Ns" for key in keys) + b"."
    )


def keys_of_a_call():
    """Of `dict` on a list of pairs."""
    return tuples_that_are_keys(
        lambda keys: (
            b"cbuiltins\ndict\n]("
            + b"".join(key + b"N\x86" for key in keys)
            + b"e\x85R."
        )
    )


def items_of_a_set():
    return tuples_that_are_keys(
        lambda keys: b"\x8f(" + b"".join(keys) + b"\x90."
    )


def lists_in_lists():
    return b"\x80\x02" + b"]" * 300 + b"a" * 299 + b"."


@pytest.mark.parametrize(
    "content, message",
    [
        (keys_of_a_dict, "tuples as keys"),
        (keys_one_by_one, "tuples as keys"),
        (keys_of_a_call, "tuples as keys"),
        (items_of_a_set, "tuples as keys"),
        (lists_in_lists, "containers"),
        (references_in_tuples, "very long"),
        (references_in_a_key, "very long"),
        (a_tuple_that_is_a_key_again_and_again, "very long"),
        (references_in_frozensets, "unhashable"),
        (copies_of_a_list, "in memory"),
        (a_length_of_16_gigabytes, "damaged"),
        (a_bytearray_of_16_gigabytes, "damaged"),
    ],
)
def test_pickle(tmp_path, content, message):
    refused(tmp_path / "net.pt", content(), message)


def test_a_name_of_many_prefixes(tmp_path):
    """They are stripped one by one."""
    torch.save({"0." * 10_000 + "w": torch.ones(2, 2)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="20,001 characters"):
        keras_adaad.zoo.load_checkpoint(tmp_path / "net.pt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("new", [True, False])
def test_broadcast_tensor(tmp_path, dtype, new):
    path = tmp_path / "net.pt"
    weight = torch.ones(1, dtype=dtype).expand(2**29)
    torch.save({"w": weight}, path, _use_new_zipfile_serialization=new)
    refused(path)


def test_one_storage_in_many_tensors(tmp_path):
    """Each is widened to float32 by itself."""
    path = tmp_path / "net.pt"
    storage = torch.zeros(2**18, dtype=torch.bfloat16)
    torch.save({str(i): storage.view(-1) for i in range(1000)}, path)
    refused(path)


def test_safetensors_that_overlap(tmp_path):
    entry = {"dtype": "BF16", "shape": [2**17], "data_offsets": [0, 2**18]}
    header = str({str(i): entry for i in range(1000)}).replace("'", '"')
    size = struct.pack("<Q", len(header))
    path = tmp_path / "net.safetensors"
    refused(path, size + header.encode() + bytes(2**18))


def zipped(path, entries, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def npy(shape, data=b""):
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


def test_compressed_zeros(tmp_path):
    zipped(tmp_path / "a.npz", {"w.npy": npy((2**24,), bytes(2**26))})
    refused(tmp_path / "a.npz")
    zipped(tmp_path / "a.pt", {"a/data.pkl": b"\x80\x02" + bytes(2**26)})
    refused(tmp_path / "a.pt")
    pickled = pickle.dumps(1)
    content = {"a/data.pkl": pickled, "a/byteorder": bytes(2**26)}
    zipped(tmp_path / "b.pt", content)
    refused(tmp_path / "b.pt")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_is_unpacked_whole(tmp_path, compression):
    path = tmp_path / "a.npz"
    zipped(path, {"w.npy": npy((2**24,), bytes(2**26))}, compression)
    content = path.read_bytes()
    declared = struct.pack("<I", 2**26 + 128)
    assert declared in content
    content = content.replace(declared, struct.pack("<I", 1))
    refused(path, content, message="compressed otherwise")


def test_keys_with_one_hash(tmp_path):
    """Python compares each with all that came before."""
    keys = [n * (2**61 - 1) for n in range(2**8, 30_000)]
    path = tmp_path / "net.pt"
    path.write_bytes(pickle.dumps(dict.fromkeys(keys, 0), protocol=2))
    assert not any(isinstance(key, int) for key in files.read(path))


def test_a_permuted_array(tmp_path):
    """NumPy 2.4 writes the order of its axes, which is not read."""
    path = tmp_path / "net.pt"
    array = b"cnumpy._core.numeric\n_frombuffer\n(C\x00U\x00"
    refused(
        path,
        b"\x80\x04" + array + b"K\x01K\x01\x86U\x01KK\x00\x85tR.",
        message="axes were permuted",
    )


def test_wide_sizes(tmp_path):
    path = tmp_path / "net.pt"
    size = struct.pack("<i", 2**17) + b"\x01" * 2**17
    axes = b"(\x8a\x01\x00" + b"\x8b" + size + b"q\x01" + b"h\x01" * 5000 + b"t"
    array = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + axes
    dtype = b"cnumpy\ndtype\n(U\x02f4tR"
    refused(
        path,
        b"\x80\x02" + array + dtype + b"\x89C\x00tb.",
        message="more than 64 axes",
    )


def test_a_network_of_thousands_of_layers(tmp_path):
    path = tmp_path / "net.npz"
    arrays = {
        f"block1.layer.{i}.conv1.weight": np.zeros((16, 16, 3, 3), "float32")
        for i in range(40)
    }
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="at most 200 layers. Received: 244"):
        architecture.infer(files.read(path), "WideResNet")


def test_shapes_without_data(tmp_path):
    """An empty array, of which a network would be built."""
    path = tmp_path / "net.pt"
    torch.save({"w": torch.empty(2**40, 0)}, path)
    refused(path)
    zipped(tmp_path / "a.npz", {"w.npy": npy((2**40, 0))})
    refused(tmp_path / "a.npz")
    entry = '{"dtype": "F32", "shape": [1099511627776, 0], '
    header = f'{{"w": {entry}"data_offsets": [0, 0]}}}}'
    size = struct.pack("<Q", len(header))
    refused(tmp_path / "a.safetensors", size + header.encode() + bytes(8))


@pytest.mark.parametrize(
    "name, shape, message",
    [
        ("block1.layer.0.conv1.weight", (16 * 10**4, 16, 1, 1), "the whole"),
        ("linear.weight", (10**6, 1), "at least 64 features"),
    ],
)
def test_a_network_larger_than_its_file(tmp_path, name, shape, message):
    path = tmp_path / "net.npz"
    np.savez(path, **{name: np.zeros(shape, "float16")})
    with pytest.raises(ValueError, match=message):
        arrays = files.read(path)
        architecture.infer(arrays, "WideResNet")


def test_an_array_that_is_not_there(tmp_path):
    zipped(tmp_path / "a.npz", {"w.npy": npy((2**33,))})
    refused(tmp_path / "a.npz")


def test_a_size_that_is_not_declared(tmp_path):
    """The directory of the zip says one byte; 64 MiB are compressed."""
    path = tmp_path / "a.npz"
    zipped(path, {"w.npy": npy((2**24,), bytes(2**26))})
    content = path.read_bytes()
    declared = struct.pack("<I", 2**26 + 128)
    assert content.count(declared) == 2
    content = content.replace(declared, struct.pack("<I", 1))
    refused(path, content, message="damaged")


def refused(path, content=None, message="in memory"):
    if content is not None:
        path.write_bytes(content)
    tracemalloc.start()
    begin = time.monotonic()
    try:
        with pytest.raises(ValueError, match=message):
            files.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begin < 20
    assert peak < 2**25 + 20 * path.stat().st_size
