"""Converts DeepMind's Haiku checkpoints to the PyTorch names and layout.

The names on both sides are those of `adversarial_robustness/jax/model_zoo.py`
and `adversarial_robustness/pytorch/model_zoo.py` of
https://github.com/google-deepmind/deepmind-research (WideResNet). A file is a
pair of Haiku trees: the parameters, and the states of the BatchNorms. In Haiku
`wide_res_net/~/resnet_lay_0_block_1/~/conv_0` is the path of a module that is
created in the constructor of another.
"""

import re

_BLOCK = re.compile(r"resnet_lay_(\d+)_block_(\d+)")
_PARAMETERS = {
    "w": "weight",
    "b": "bias",
    "scale": "weight",
    "offset": "bias",
}
_STATISTICS = {"mean_ema": "running_mean", "var_ema": "running_var"}


def is_haiku(content):
    """Returns whether a checkpoint is a pair of Haiku trees."""
    return (
        isinstance(content, (list, tuple))
        and len(content) == 2
        and all(isinstance(tree, dict) and _is_tree(tree) for tree in content)
    )


def state_dict(parameters, states):
    """Returns Haiku's trees as a state dict of PyTorch's WideResNet.

    The arrays are views, in PyTorch's layout.
    """
    arrays = {}
    for path, module in parameters.items():
        for name, array in module.items():
            array = _kernel(array) if name == "w" else array.reshape(-1)
            name = _PARAMETERS.get(name, name)
            arrays[f"{_module(path)}.{name}"] = array
    for path, module in states.items():
        path, _, statistic = path.rpartition("/~/")
        if statistic in _STATISTICS:
            name = f"{_module(path)}.{_STATISTICS[statistic]}"
            # Haiku corrects the average for its start at zero; `hidden` is
            # the uncorrected value.
            arrays[name] = module["average"].reshape(-1)
    return arrays


def _is_tree(tree):
    return bool(tree) and all(
        isinstance(path, str) and "/~/" in path and isinstance(module, dict)
        for path, module in tree.items()
    )


def _module(path):
    """Returns the PyTorch name of the module at a Haiku path."""
    _, *names = path.split("/~/")
    return _BLOCK.sub(r"layer.\1.block.\2", ".".join(names))


def _kernel(array):
    """Returns a kernel with its outputs first, as in PyTorch."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
