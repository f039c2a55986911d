"""Every private name of Keras and PyTorch that this library uses.

Each function and constant says why no public name will do, and from which
version on it is not needed. The suite runs on Keras 3.15 and 3.16.
"""

import keras

# Attributes of every layer that decide what it computes, besides those that
# its class sets. Keras has no public list of a layer's state.
LAYER_ATTRIBUTES = ("_dtype_policy", "_layers", "_trainable", "autocast")
# What `compile`, `fit` and `predict` leave in a model.
TRAINING_ATTRIBUTES = (
    "_compile_config",
    "_compiled_trainable_state",
    "_eval_epoch_iterator",
    "history",
    "optimizer",
    "stop_evaluating",
    "stop_predicting",
    "stop_training",
)
# Names that begin so belong to TensorFlow's tracking of attributes.
TRACKING_PREFIX = "_self_"


def is_validation(arguments):
    """Returns whether `fit` itself calls `evaluate`, at the end of an epoch.

    `fit` has checked and divided the validation data then. No public argument
    tells the two kinds of calls apart.
    """
    return bool(arguments.get("_use_cached_eval_dataset"))


def calls_of(operation):
    """Returns the nodes of a graph that an operation was called in.

    The public `operation.input` shows the first call only.
    """
    return operation._inbound_nodes


def place_of(optimizer, variable):
    """Returns the place of a variable among those of an optimizer.

    Keras's own optimizers find their slot variables by it in `update_step`.
    """
    return optimizer._get_variable_index(variable)


class SymbolicBuildHook(keras.Model):
    """A TensorFlow model that can change a data set before Keras reads it.

    `fit` and `evaluate` make their data set, call `_maybe_symbolic_build`, and
    make its iterator. Nothing public comes between.
    """

    def before_symbolic_build(self, iterator, data_batch):
        """Returns the iterator and the batch to build from; one may be `None`.

        Args:
            iterator: Keras's `TFEpochIterator`, or `None`.
            data_batch: A batch, or `None`.
        """
        return iterator, data_batch

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        iterator, data_batch = self.before_symbolic_build(iterator, data_batch)
        super()._maybe_symbolic_build(iterator, data_batch)


def change_dataset(iterator, change):
    """Replaces the data set of a `TFEpochIterator` that was not read yet.

    Args:
        iterator: The iterator.
        change: Function from the data set to the one to read.
    """
    iterator._distributed_dataset = change(iterator._distributed_dataset)


def with_autograd_in_graph(compiled):
    """Returns a compiled PyTorch function that may call `autograd.grad`.

    PyTorch 2.13 puts the call into the graph if this option is set.
    `torch.compile` has no argument for it. Earlier versions make two graphs.
    """
    import torch

    # One function serves all models, each of which has its graph.
    config = {"recompile_limit": 64}
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        config["trace_autograd_ops"] = True
    return torch._dynamo.config.patch(config)(compiled)
