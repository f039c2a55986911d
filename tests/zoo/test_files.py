"""Reading: equal to PyTorch bit for bit, without it, and nothing executed."""

import argparse
import collections
import hashlib
import os
import pathlib
import pickle
import subprocess
import sys
import tarfile
import tracemalloc
import types
import zipfile

import numpy as np
import pytest
import torch

from keras_adaad.zoo import files
from keras_adaad.zoo.files import pytorch

pytestmark = pytest.mark.once

FORMATS = {"zip": True, "legacy": False}


@pytest.fixture(params=FORMATS)
def save(request, tmp_path):
    """Saves an object with PyTorch, in each of its two formats."""

    def save(content):
        path = tmp_path / "checkpoint.pt"
        torch.save(
            content,
            path,
            _use_new_zipfile_serialization=FORMATS[request.param],
        )
        return path

    return save


def tensors():
    """Tensors of every dtype and every kind of view."""
    torch.manual_seed(0)
    base = torch.randn(6, 5, 4)
    numbers = 100 * base
    return {
        "float": base,
        "double": base.double(),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "long": numbers.long(),
        "int": numbers.int(),
        "short": numbers.short(),
        "char": numbers.char(),
        "byte": numbers.abs().byte(),
        "bool": base > 0,
        "complex": torch.complex(base, base),
        "scalar": torch.tensor(7),
        "bfloat16_scalar": torch.tensor(1.5).bfloat16(),
        "empty": torch.empty(3, 0, 2),
        "transposed": base.transpose(0, 2),
        "slice_of_shared": base[2:4, ::2, 1:],
        "column": base[:, 1, 2],
        "bfloat16_view": base.bfloat16().transpose(0, 1)[1:],
        "expanded": torch.randn(3, 1).expand(3, 4),
        "parameter": torch.nn.Parameter(base[0]),
        "frozen": torch.nn.Parameter(base[1], requires_grad=False),
    }


def assert_same(ours, reference):
    if isinstance(reference, torch.Tensor):
        if reference.dtype == torch.bfloat16:
            reference = reference.float()
        reference = reference.detach().numpy()
    if isinstance(reference, np.ndarray):
        assert type(ours) is np.ndarray
        assert ours.dtype == reference.dtype
        assert ours.shape == reference.shape
        assert ours.tobytes() == reference.tobytes()
    elif isinstance(reference, dict):
        assert type(ours) is dict
        assert list(ours) == list(reference)
        for key, value in reference.items():
            assert_same(ours[key], value)
    elif isinstance(reference, (list, tuple)):
        assert len(ours) == len(reference)
        for mine, value in zip(ours, reference, strict=True):
            assert_same(mine, value)
    else:
        assert type(ours) is type(reference)
        assert ours == reference


def test_every_tensor_is_pytorchs_bit_for_bit(save):
    path = save(tensors())
    assert_same(files.read(path), torch.load(path))


def test_a_training_checkpoint_is_read_whole(save):
    network = torch.nn.DataParallel(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    path = save(
        {
            "net": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "clean_acc": np.float64(85.83),
            "history": [np.float32(0.5), np.arange(6.0).reshape(2, 3).T],
            "milestones": collections.Counter({75: 1, 90: 1}),
            "size": torch.Size([32, 32]),
            "epoch": 200,
            "name": "naïve",
            "nothing": None,
        }
    )
    reference = torch.load(path, weights_only=False)
    assert_same(files.read(path), reference)


def test_objects_that_are_not_data_become_placeholders(save):
    weight = torch.ones(2)
    settings = {
        "args": argparse.Namespace(lr=0.1, path=pathlib.PosixPath("a/b")),
        "dtype": torch.float32,
        "numpy_dtype": np.dtype("float32"),
        "device": torch.device("cpu"),
        "version": torch.__version__,
        "config": types.SimpleNamespace(a=1),
    }
    content = files.read(save({**settings, "net": {"weight": weight}}))
    assert_same(content["net"], {"weight": weight})
    assert list(content) == [*settings, "net"]
    assert not hasattr(content["args"], "lr")


@pytest.mark.parametrize("factory", [list, dict, set, int, float])
def test_sets_and_defaultdicts_are_data(save, factory):
    """PyTorch writes protocol 2, where their names are Python 2's."""
    seen = collections.defaultdict(factory, {"epochs": [1, 2]})
    content = {
        "seen": seen,
        "names": {"cat", "dog"},
        "frozen": frozenset({1, 2}),
        "shape": torch.Size([3, 4]),
        "net": {"weight": torch.ones(2)},
    }
    expected = {**content, "seen": dict(seen), "frozen": {1, 2}}
    assert_same(files.read(save(content)), expected)


def test_a_checkpoint_zipped_again_is_read(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(tensors(), path)
    packed = tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert_same(files.read(packed), torch.load(path))


def test_tensors_stay_in_the_file_until_used(save):
    path = save({"weight": torch.ones(2**21)})
    tracemalloc.start()
    content = files.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert content["weight"].nbytes == 2**23
    assert peak < 2**20


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    contiguous = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors().items()
        if not tensor.is_complex()
    }
    # Not called by its suffix: the content decides.
    path = tmp_path / "weights.pt"
    safetensors.save_file(contiguous, path, metadata={"format": "pt"})
    ours = files.read(path)
    assert_same({name: ours[name] for name in contiguous}, contiguous)
    assert len(ours) == len(contiguous)


@pytest.mark.parametrize("savez", [np.savez, np.savez_compressed])
def test_npz(tmp_path, savez):
    arrays = {"conv.weight": np.arange(6.0).reshape(2, 3), "n": np.array(3)}
    savez(tmp_path / "weights.npz", **arrays)
    assert_same(files.read(tmp_path / "weights.npz"), arrays)


def test_npy_of_numbers(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "array.npy", array)
    np.testing.assert_array_equal(files.read(tmp_path / "array.npy"), array)


def pretend_module(monkeypatch, name, **content):
    """Makes objects importable from `name`, as pickling demands."""
    parents = name.split(".")
    for i in range(len(parents)):
        module = types.SimpleNamespace(__path__=[], **content)
        monkeypatch.setitem(sys.modules, ".".join(parents[: i + 1]), module)


@pytest.mark.parametrize("mapping", ["FlatMapping", "FlatMap", "frozendict"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_npy_of_haiku_trees(tmp_path, monkeypatch, mapping, protocol):
    # Haiku pickles its mappings as a call with one dict.
    name = "haiku._src.data_structures"
    flat = type(mapping, (dict,), {"__module__": name})
    flat.__reduce_ex__ = lambda self, protocol: (flat, (dict(self),))
    pretend_module(monkeypatch, name, **{mapping: flat})
    tree = {"net/~/conv": {"w": np.arange(4.0), "f": np.ones((3, 2)).T}}
    state = {"net/~/mean_ema": {"average": np.float32(2), "n": np.array(1)}}
    trees = np.empty(2, object)
    trees[:] = flat({k: flat(v) for k, v in tree.items()}), flat(state)
    path = tmp_path / "trees.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, np.lib.format.header_data_from_array_1_0(trees)
        )
        pickle.dump(trees, file, protocol=protocol)
    assert_same(files.read(path), (tree, state))


def test_a_pickle_of_jax_arrays_is_read(tmp_path, monkeypatch):
    # JAX pickles an array as a call on the parts of NumPy's pickle of it.
    def _reconstruct_array(function, arguments, state, aval_state):
        raise AssertionError

    _reconstruct_array.__module__ = "jax._src.array"
    _reconstruct_array.__qualname__ = "_reconstruct_array"
    pretend_module(
        monkeypatch, "jax._src.array", _reconstruct_array=_reconstruct_array
    )
    array = np.arange(6.0).reshape(2, 3)

    class Array:
        def __reduce__(self):
            return _reconstruct_array, (*array.__reduce__(), {})

    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps({"w": Array()}))
    assert_same(files.read(path), {"w": array})


def test_reading_needs_numpy_alone(tmp_path):
    reading = """
import hashlib, sys, types
for missing in ("torch", "safetensors", "keras", "jax", "tensorflow"):
    sys.modules[missing] = None
root, *paths = sys.argv[1:]
for name in ("keras_adaad", "keras_adaad.zoo"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [f"{root}/{name.replace('.', '/')}"]
from keras_adaad.zoo import files
for path in paths:
    content = files.read(path)
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(content[name].tobytes())
    print(digest.hexdigest())
"""
    expected = hashlib.sha256()
    for _, tensor in sorted(tensors().items()):
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        expected.update(tensor.detach().numpy().tobytes())
    paths = []
    for name, new in FORMATS.items():
        paths.append(str(tmp_path / name))
        torch.save(tensors(), paths[-1], _use_new_zipfile_serialization=new)
    root = pathlib.Path(files.__file__).parents[3]
    printed = subprocess.run(
        [sys.executable, "-c", reading, str(root), *paths],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert printed.split() == 2 * [expected.hexdigest()]


class Attack:
    """An object whose pickle runs a shell command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def save_zip(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content, path):
    path.write_bytes(pickle.dumps(content))


def save_npy(content, path):
    with open(path, "wb") as file:
        np.save(file, np.array([content], object), allow_pickle=True)


def save_npz(content, path):
    with open(path, "wb") as file:
        np.savez(file, weight=np.ones(2), evil=np.array([content], object))


@pytest.mark.parametrize(
    "save", [save_zip, save_legacy, save_pickle, save_npy, save_npz]
)
def test_a_malicious_file_is_refused_and_not_executed(tmp_path, save):
    marker = tmp_path / "executed"
    path = tmp_path / "model.pt"
    save({"evil": Attack(marker), "weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="executed") as error:
        files.read(path)
    assert not marker.exists()
    assert str(path) in str(error.value)
    if save is not save_npz:
        assert "system`" in str(error.value)


def test_the_attack_of_these_tests_is_real(tmp_path):
    marker = tmp_path / "executed"
    pickle.loads(pickle.dumps(Attack(marker)))
    assert marker.exists()


def test_a_pickle_cannot_change_what_the_next_one_gets(tmp_path):
    # The pickle looks up a name and sets an attribute of what it gets.
    target = b"ctorch._utils\n_rebuild_tensor_v2\n"
    state = b"N}X\x06\x00\x00\x00poisonK\x01s\x86"
    with zipfile.ZipFile(tmp_path / "poison.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + target + state + b"b.")
    files.read(tmp_path / "poison.pt")
    assert not hasattr(pytorch._Tensor, "poison")


@pytest.mark.parametrize(
    "view",
    [
        (-1, (1,), (1,)),
        (0, (5,), (1,)),
        (4, (1,), (1,)),
        (0, (2, 2), (1, 3)),
        (0, (3,), (2**61,)),
        (0, (2,), (-1,)),
        (2**70, (1,), (1,)),
        (0, (-1,), (1,)),
    ],
)
def test_a_tensor_cannot_reach_out_of_its_storage(save, view):
    storage = torch.ones(4)._typed_storage()

    class Tensor:
        def __reduce__(self):
            arguments = (storage, *view, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    with pytest.raises(ValueError, match="damaged"):
        files.read(save({"weight": Tensor()}))


def test_a_whole_module_is_refused_with_the_way_out(save):
    path = save(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="nn.Module") as error:
        files.read(path)
    assert "torch.nn.modules.container.Sequential" in str(error.value)
    assert "torch.save(model.state_dict()" in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "web page"),
        (b"\xef\xbb\xbf\n  <html>Sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n and so on", "no known format.*HDF"),
    ],
)
def test_what_is_not_a_checkpoint_is_named(tmp_path, content, message):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        files.read(path)
    assert str(path) in str(error.value)


def test_other_archives_are_named(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    with tarfile.open(tmp_path / "model.tar", "w") as archive:
        archive.add(tmp_path / "model.pt", "model.pt")
    with pytest.raises(ValueError, match="tar archive"):
        files.read(tmp_path / "model.tar")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.write(tmp_path / "model.pt", "folder/model.pt")
    with pytest.raises(ValueError, match="unpack.*folder/model.pt"):
        files.read(tmp_path / "model.zip")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pt"):
        files.read(tmp_path / "nowhere.pt")
    with pytest.raises(ValueError, match="folder"):
        files.read(tmp_path)


def test_a_download_that_was_cut_off(save):
    path = save(tensors())
    whole = path.read_bytes()
    for part in (0.3, 0.6, 0.99):
        size = int(part * len(whole))
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"cut off.* {size} bytes"):
            files.read(path)


def test_wrong_bytes_never_do_more_than_raise(save):
    path = save({"net": tensors(), "accuracy": np.float64(85.83)})
    whole = np.frombuffer(path.read_bytes(), "uint8")
    draws = np.random.default_rng(0)
    outcomes = collections.Counter()
    for _ in range(300):
        wrong = whole.copy()
        places = draws.integers(0, len(whole), 20)
        wrong[places] = draws.integers(0, 256, 20)
        path.write_bytes(wrong.tobytes())
        try:
            files.read(path)
            outcomes["read"] += 1
        except ValueError as error:
            assert str(path) in str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] > 30
