"""Extracts the weights of a checkpoint, under their PyTorch names."""

import numpy as np

from keras_adaad.zoo import haiku

# Prefixes by which training code wraps a network: DataParallel and
# AveragedModel, a class with a `model` in it, torch.compile, and the only or
# the second member of a Sequential.
# Prefixes are stripped one by one.
LONGEST_NAME = 1_000
_PREFIXES = ("module.", "model.", "_orig_mod.", "0.", "1.")
_NORMALIZATION = {"mean", "std", "mu", "sigma"}

# Which of two sets of weights in a file to load: RobustBench takes the last
# epoch's, and papers report the averaged weights.
_MEANT = {
    frozenset({"last", "best"}): "last",
    frozenset(
        {"model_state_dict", "unaveraged_model_state_dict"}
    ): "model_state_dict",
}


def state_dict(content, key=None, first_is_known=False):
    """Returns the weights in a checkpoint as a flat dict.

    Finds the weights in the nested dicts that training code saves, beside
    epochs, optimizers and accuracies. Strips the prefixes of wrappers
    (`module.`, `model.`, `_orig_mod.`, `0.`, `1.`) that all weights share.
    Buffers of a normalisation layer become `mean` and `std`, or `mu` and
    `sigma`. DeepMind's Haiku trees get the names and the layout of their
    PyTorch counterparts. Nothing is copied.

    `content` is the result of `keras_adaad.zoo.files.read`. If it holds several
    sets of weights, `key` names the one to take, e.g. `"best"`.

    A network that is the second member of a Sequential, after one that holds
    nothing in the file, is refused unless `first_is_known`: the first is often
    a normalisation.
    """
    if haiku.is_haiku(content):
        return haiku.state_dict(*content)
    if isinstance(content, (list, tuple)):
        raise ValueError(
            "The checkpoint is a list, of several networks perhaps. Save the "
            f"weights of one. Received: {_summary(content)}"
        )
    if key is not None:
        content = _choose(content, key)
        return state_dict(content, first_is_known=first_is_known)
    if not isinstance(content, dict):
        _refuse(content)
    nests = [name for name in content if _holds_weights(content[name])]
    if not nests or any("." in name for name in _arrays(content)):
        arrays = _arrays(content) or _refuse(content)
        return _strip(arrays, first_is_known)
    if len(nests) > 1 and frozenset(nests) not in _MEANT:
        raise ValueError(
            "The checkpoint holds several sets of weights. Choose one by "
            f"`key`: {', '.join(repr(name) for name in nests)}"
        )
    content = content[_MEANT.get(frozenset(nests), nests[0])]
    return state_dict(content, first_is_known=first_is_known)


def _choose(content, key):
    if not isinstance(content, dict) or key not in content:
        raise ValueError(
            "Argument `key` must name an entry of the checkpoint. "
            f"Received: key={key!r} and {_summary(content)}"
        )
    return content[key]


def _holds_weights(value):
    """Returns whether a value is a dict with a matrix at any depth.

    Vectors do not count, because optimizers, histories and random states have
    some. All keys must be names, because an optimizer's state is numbered.
    """
    if not isinstance(value, dict) or not all(
        isinstance(k, str) for k in value
    ):
        return False
    return any(
        (isinstance(item, np.ndarray) and item.ndim > 1) or _holds_weights(item)
        for item in value.values()
    )


def _arrays(content):
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str)
        and isinstance(value, np.ndarray)
        # The counter that `torch.optim.swa_utils.AveragedModel` adds.
        and name != "n_averaged"
    }


def _strip(arrays, first_is_known):
    """Returns the arrays without the prefixes of wrappers in their names."""
    longest = max(map(len, arrays), default=0)
    if longest > LONGEST_NAME:
        raise ValueError(
            f"The checkpoint has an array whose name has {longest:,} "
            f"characters. At most {LONGEST_NAME:,} are read."
        )
    buffers = {
        name: name.rpartition(".")[2]
        for name in arrays
        if name.rpartition(".")[2] in _NORMALIZATION
    }
    if len(set(buffers.values())) < len(buffers):
        buffers = {}  # In several layers: not the input's normalisation.
    weights = {name: name for name in arrays if name not in buffers}
    while prefix := _shared_prefix(weights.values()):
        if prefix == "1." and not buffers and not first_is_known:
            raise ValueError(
                "The network of the checkpoint is the second member of a "
                "Sequential, after one that holds nothing in the file, perhaps "
                "a normalisation. Pass its `mean` and `std`, or `mean=None` "
                f"if there is none. Received: {_summary(arrays)}"
            )
        weights = {n: s.removeprefix(prefix) for n, s in weights.items()}
    names = {**weights, **buffers}
    return {name: arrays[original] for original, name in names.items()}


def _shared_prefix(names):
    for prefix in _PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return prefix
    return None


def _refuse(content):
    raise ValueError(
        "The checkpoint holds no weights by name. Save a network's "
        f"`state_dict()`. Received: {_summary(content)}"
    )


def _summary(content):
    if isinstance(content, np.ndarray):
        return f"an array of shape {content.shape}"
    if isinstance(content, dict):
        items = [f"{k!r} ({type(v).__name__})" for k, v in content.items()]
        more = ["..."] if len(items) > 8 else []
        return f"a dict with the keys {', '.join(items[:8] + more)}"
    if isinstance(content, (list, tuple)):
        return f"a {type(content).__name__} of {len(content)}"
    return f"an object of type {type(content).__name__}"
