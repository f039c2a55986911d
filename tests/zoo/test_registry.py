"""The registry against RobustBench's own files, where they are installed."""

import ast
import importlib.metadata
import importlib.util
import inspect
import pathlib
import re

import numpy as np
import pytest
import torch

from keras_adaad import models
from keras_adaad.zoo import registry

pytestmark = pytest.mark.once

NUM_CLASSES = {"cifar10": 10, "cifar100": 100}
THREAT_MODELS = ("Linf", "L2", "corruptions")
LICENSES = {"MIT", "Apache-2.0", "BSD-3-Clause", "CC-BY-NC-SA-4.0"}
KEYS = {
    "id": str,
    "dataset": str,
    "threat_model": str,
    "epsilon": float | None,
    "architecture": str,
    "arguments": dict,
    "clean_accuracy": float,
    "robust_accuracy": float,
    "paper": str,
    "url": str,
    "venue": str,
    "license": str,
    "gdrive_id": str,
    "download_url": str | None,
    "sha256": str | None,
    "size": int | None,
    "checkpoint_key": str | None,
}

entries = registry.list_models()
robustbench = pytest.mark.skipif(
    importlib.util.find_spec("robustbench") is None,
    reason="needs `pip install --no-deps robustbench`",
)


def key(entry):
    return entry["dataset"], entry["threat_model"], entry["id"]


@pytest.mark.parametrize("entry", entries, ids=lambda e: "-".join(key(e)))
def test_entry_is_complete(entry):
    optional = entry.keys() - KEYS.keys()
    assert optional <= {"normalization_from_file"}
    for name, kind in KEYS.items():
        assert isinstance(entry[name], kind), name
    arguments = entry["arguments"]
    builder = getattr(models, entry["architecture"])
    inspect.signature(builder).bind(**arguments)
    assert arguments["num_classes"] == NUM_CLASSES[entry["dataset"]]
    # Whatever the builder's default is, a checkpoint has its own.
    assert {"mean", "std"} <= arguments.keys()
    epsilons = {"Linf": (8 / 255, 0.031), "L2": (0.5,), "corruptions": (None,)}
    assert entry["epsilon"] in epsilons[entry["threat_model"]]
    assert 0 <= entry["robust_accuracy"] < entry["clean_accuracy"] < 100
    assert entry["license"] in LICENSES
    assert entry["url"].startswith("https://")
    assert re.fullmatch(r"[\w-]{33}", entry["gdrive_id"])
    assert re.fullmatch(
        r"https://\S+\.pt", entry["download_url"] or "https://a.pt"
    )
    assert re.fullmatch(r"[0-9a-f]{64}", entry["sha256"] or "0" * 64)
    assert (entry["sha256"] is None) == (entry["size"] is None)


def test_order():
    assert len({key(entry) for entry in entries}) == len(entries)
    order = [
        (
            list(NUM_CLASSES).index(entry["dataset"]),
            THREAT_MODELS.index(entry["threat_model"]),
            -entry["robust_accuracy"],
        )
        for entry in entries
    ]
    assert order == sorted(order)


# Against RobustBench.


class AnyName(type):
    """Lets a class have every attribute: a class again, named like it."""

    def __getattr__(cls, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return AnyName(name, (Recorder,), {})


class Recorder(torch.nn.Module, metaclass=AnyName):
    """Stands for a network; keeps the arguments it was built with."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.args, self.kwargs = args, kwargs

    def forward(self, x):
        # What a subclass hands to its network is what it normalises.
        return x


def folder():
    spec = importlib.util.find_spec("robustbench")
    return pathlib.Path(spec.origin).parent / "model_zoo"


def constants():
    """Returns the published means and standard deviations, by name."""
    text = (folder() / "architectures" / "dm_wide_resnet.py").read_text()
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
    }


def published(dataset):
    """Yields `(threat_model, id, network, gdrive_id)` of RobustBench's zoo.

    Its file runs as it is, but for its imports: what they would import is not
    installed, so recorders take the place of the networks.
    """
    names, body = {}, []
    for node in ast.parse((folder() / f"{dataset}.py").read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name
                names[name] = AnyName(name, (Recorder,), {})
        else:
            body.append(node)
    names |= {"OrderedDict": dict, "torch": torch, "nn": torch.nn}
    names |= constants()
    exec(compile(ast.Module(body, []), dataset, "exec"), names)
    zoo = names[dataset.replace("cifar", "cifar_") + "_models"]
    for threat_model, group in zoo.items():
        for name, row in group.items():
            yield threat_model.__name__, name, row["model"](), row["gdrive_id"]


def keras_arguments(network):
    """Returns builder and arguments for a recorded network, or `None`."""
    if not isinstance(network, Recorder):
        return None  # An ensemble.
    families = {cls.__name__ for cls in type(network).__mro__}
    args, kwargs = network.args, network.kwargs
    blocks = args[0].__name__ if args and isinstance(args[0], type) else None
    if "WideResNet" in families:
        names = ("depth", "num_classes", "widen_factor")
        given = dict(zip(names, args, strict=False)) | kwargs
        assert given.keys() <= {*names, "sub_block1"}
        return "WideResNet", {
            "depth": given.get("depth", 28),
            "width": given.get("widen_factor", 10),
            "num_classes": given.get("num_classes", 10),
        }
    if families & {"DMWideResNet", "DMPreActResNet"}:
        activation = kwargs.pop("activation_fn").__name__
        assert activation in ("Swish", "SiLU")
        kwargs |= {"activation": "silu"}
        if "DMWideResNet" in families:
            return "DMWideResNet", kwargs
        assert (kwargs.pop("depth"), kwargs.pop("width")) == (18, 0)
        return "DMPreActResNet18", kwargs
    if "ResNet18" in families:
        return "ResNet18", {"num_classes": 10}
    if "ResNet" in families and blocks == "BasicBlock":
        assert args[1] == [2, 2, 2, 2]
        return "ResNet18", {"num_classes": 10} | kwargs
    if "PreActResNet" in families:
        assert args[1] == [2, 2, 2, 2]
        variant = {"bn_before_fc": False, "out_shortcut": False} | kwargs
        if blocks == "PreActBlockV2":
            variant["out_shortcut"] = True
        return "PreActResNet18", {"num_classes": 10} | variant
    return None


def normalize(x, mean, std):
    if mean is None:
        return x
    if mean == "image":
        flat = x.reshape(len(x), -1)
        mean, std = flat.mean(1), flat.std(1, ddof=1)
        std = np.maximum(std, flat.shape[1] ** -0.5)
        return (x - mean[:, None, None, None]) / std[:, None, None, None]
    return (x - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))


@robustbench
@pytest.mark.parametrize("dataset", NUM_CLASSES)
def test_registry_is_robustbench(dataset):
    x = np.random.default_rng(0).random((3, 3, 32, 32))
    x[2] = 0.5  # An image without contrast.
    known = {key(entry): entry for entry in entries}
    found = set()
    for threat_model, name, network, gdrive_id in published(dataset):
        expected = keras_arguments(network)
        if expected is None:
            continue
        found.add((dataset, threat_model, name))
        entry = known[dataset, threat_model, name]
        architecture, arguments = expected
        given = dict(entry["arguments"])
        if architecture.startswith("DM"):
            # These normalise inside the network.
            arguments["mean"] = list(arguments["mean"])
            arguments["std"] = list(arguments["std"])
        else:
            normalization = given.pop("mean"), given.pop("std")
            if "normalization_from_file" in entry:
                # Theirs are placeholders, ours are none.
                assert normalization == (None, None)
                assert name == "Modas2021PRIMEResNet18"
            else:
                theirs = network(torch.from_numpy(x)).numpy()
                ours = normalize(x, *normalization)
                np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-6)
        assert (entry["architecture"], given) == (architecture, arguments)
        assert entry["gdrive_id"] == gdrive_id
        # `load_model` of RobustBench takes the last network of these.
        last = "Kireev2021" in name or "Andriushchenko2020" in name
        assert entry["checkpoint_key"] == ("last" if last else None)
    assert found == {k for k in known if k[0] == dataset}


@robustbench
def test_accuracies_are_published():
    table = {}
    text = importlib.metadata.metadata("robustbench").get_payload()
    for line in text.splitlines():
        if section := re.match(r"### (\S+)$", line):
            dataset = section[1].lower().replace("-", "")
        elif section := re.match(r"#### .*?(Linf|L2|orruptions)", line):
            threat_model = section[1].replace("orr", "corr")
        elif row := re.search(
            r"<sup>\*\*(\S+)\*\*.*?>([\d.]+)%.*?>([\d.]+)%", line
        ):
            table[dataset, threat_model, row[1]] = float(row[2]), float(row[3])
    for entry in entries:
        clean, robust = table[key(entry)]
        assert entry["clean_accuracy"] == clean
        # The table has the lowest known accuracy, ours is AutoAttack's.
        assert 0 <= entry["robust_accuracy"] - robust < 0.15


# What a user calls.


def test_entry():
    entry = registry.entry("Chen2021LTD_WRN34_20")
    assert entry["arguments"]["width"] == 20
    entry["arguments"]["width"] = 1
    assert registry.entry("Chen2021LTD_WRN34_20")["arguments"]["width"] == 20
    assert registry.entry("Standard", "CIFAR-10", "l2")["epsilon"] == 0.5


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("chen2021ltd_wrn34_20",), "Did you mean 'Chen2021LTD_WRN34_20'"),
        (("Standard", "cifar100"), 'dataset="cifar10", threat_model="L2"'),
        (("nothing alike",), "`list_models` returns them"),
        (("Standard", "mnist"), "'cifar10', 'cifar100'. Received: .*'mnist'"),
        (("Standard", "cifar10", "L1"), "'Linf', 'L2', 'corruptions'"),
    ],
)
def test_unknown_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        registry.entry(*arguments)


def test_list_models():
    linf = registry.list_models("CIFAR-100", "linf")
    assert linf == [e for e in entries if key(e)[:2] == ("cifar100", "Linf")]
    assert len(registry.list_models(threat_model="L2")) < len(entries)
    assert not registry.list_models("cifar100", "L2")
    with pytest.raises(ValueError, match="threat_model"):
        registry.list_models(threat_model="L1")


def test_table():
    listed = registry.list_models("cifar10", "Linf")
    header, *rows = str(listed).splitlines()
    assert header.startswith("cifar10, Linf")
    assert [row.split()[0] for row in rows] == [e["id"] for e in listed]
    row = next(row for row in rows if row.startswith("Chen2021LTD_WRN34_20"))
    assert row.split()[1:] == [
        "WideResNet-34-20",
        "8/255",
        "86.03",
        "57.71",
        "Drive",
        "MIT",
    ]
    trades = next(row for row in rows if row.startswith("Zhang2019Theoret"))
    assert trades.split()[2] == "0.031"
    titles = [
        line.split("  ")[0] for line in str(entries).splitlines() if "%" in line
    ]
    assert titles[-1] == "cifar100, corruptions" and len(titles) == 5
    assert str(registry.list_models("cifar100", "L2")) == "no models"
