"""Every private name of Keras and PyTorch that this library uses.

Each entry says why no public name will do, and where that is discussed
upstream, if it is. All are needed with Keras 3.15, except `UndistributedModel`.
"""

import importlib

import keras

# Attributes of every layer that decide what it computes, besides those that
# its class sets. Keras has no public list of a layer's state.
LAYER_ATTRIBUTES = ("_dtype_policy", "_layers", "_trainable", "autocast")
# Attributes that `compile`, `fit` and `predict` leave in a model.
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
# Prefix of the names that TensorFlow's tracking of attributes uses.
TRACKING_PREFIX = "_self_"


def global_random_states(create=False):
    """Returns a list of the state that unseeded random functions draw from.

    `keras.random.normal(shape)` and the like use Keras's global generator,
    which is no variable of any model and has no public name. The list is empty
    if there is no generator yet. It is empty on JAX, where Keras rejects these
    functions in compiled code.

    Args:
        create: Whether to make the generator if there is none. Not in a
            function that TensorFlow traces.
    """
    if keras.backend.backend() == "jax":
        return []
    module = importlib.import_module(keras.random.SeedGenerator.__module__)
    if create:
        generator = module.global_seed_generator()
    else:
        name = module.GLOBAL_SEED_GENERATOR
        generator = module.global_state.get_global_attribute(name)
    return [] if generator is None else [generator.state]


def finalize_average(swap):
    """Makes the weights of the model those that `fit` ends with.

    `swap` is a `SwapEMAWeights` that does so by itself only in the last epoch.
    """
    swap._finalize_ema_values()


def forget_resumed_epoch(model):
    """Has the next `fit` begin with its own first epoch.

    `BackupAndRestore` sets the epoch to resume from, and no call of Keras takes
    it back: a later `fit` of the same model would skip its first epochs.
    """
    model._initial_epoch = None


def is_validation(arguments):
    """Returns whether `fit` itself calls `evaluate`, at the end of an epoch.

    In that case `fit` has already checked and divided the validation data. No
    public argument tells the two kinds of calls apart.
    """
    return bool(arguments.get("_use_cached_eval_dataset"))


def calls_of(operation):
    """Returns the graph nodes of all calls of an operation.

    The public `operation.input` shows only the first call. See
    [keras#21205](https://github.com/keras-team/keras/issues/21205) and
    [keras#23238](https://github.com/keras-team/keras/issues/23238).
    """
    return operation._inbound_nodes


def place_of(optimizer, variable):
    """Returns the index of a variable among those of an optimizer.

    Keras's own optimizers use it in `update_step` to find slot variables. On
    TensorFlow the variable passed there is no Keras variable, so its path is
    unknown ([keras#21924](https://github.com/keras-team/keras/pull/21924)).
    """
    return optimizer._get_variable_index(variable)


def is_decayed(optimizer, variable):
    """Returns whether `exclude_from_weight_decay` has left a variable out.

    Keras's own decay asks the optimizer the same, and has no public name.
    """
    return optimizer._use_weight_decay(variable)


class SymbolicBuildHook(keras.Model):
    """A TensorFlow model that can change a data set before Keras reads it.

    `fit` and `evaluate` make their data set, call `_maybe_symbolic_build`, and
    make the iterator. There is no public hook in between. Keras 3 does not run
    under a `tf.distribute` strategy without it
    ([keras#21069](https://github.com/keras-team/keras/issues/21069)).
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


class UndistributedModel(keras.Model):
    """A PyTorch model whose gradients and metrics Keras does not reduce.

    From Keras 3.16 on, `fit` wraps the model in `DistributedDataParallel` and
    sums the metrics of every step, as soon as `torch.distributed` is
    initialized. There is no public way to turn this off. Keras's version takes
    no arrays, and stops for ever if the processes have different numbers of
    batches. Keras 3.15 has neither.
    """

    def _initialize_ddp(self):
        self.ddp_model = None

    def get_metrics_result(self):
        # The last class that defines it is the trainer of all backends.
        classes = keras.Model.__mro__
        *_, trainer = (c for c in classes if "get_metrics_result" in vars(c))
        return trainer.get_metrics_result(self)


def build_before_tracing(model, labels):
    """Makes the variables of a model's optimizer and of its compiled metrics.

    Without a `tf.distribute` strategy Keras leaves this to the first step, and
    TensorFlow traces a step that makes variables twice. There is no public way
    to build the compiled metrics.

    Args:
        model: The compiled model, whose networks are built.
        labels: A `keras.KerasTensor` like the labels, or `None`.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    metrics = model._compile_metrics
    if metrics is not None and not metrics.built and labels is not None:
        metrics.build(labels, keras.KerasTensor((None, model.num_classes)))


def data_spec(iterator):
    """Returns the types of the batches of a `TFEpochIterator`."""
    return iterator._distributed_dataset.element_spec


def change_dataset(iterator, change):
    """Replaces the data set of a `TFEpochIterator` before it is read.

    Args:
        iterator: The iterator.
        change: Function from the old data set to the new one.
    """
    iterator._distributed_dataset = change(iterator._distributed_dataset)


def with_autograd_in_graph(compiled):
    """Returns a compiled PyTorch function that may call `autograd.grad`.

    PyTorch 2.13 puts the call into the graph if `trace_autograd_ops` is set.
    `torch.compile` has no argument for it. Earlier versions make two graphs.
    See [pytorch#169493](https://github.com/pytorch/pytorch/pull/169493).
    """
    import torch

    # One function serves all models, and each model needs its own graph.
    config = {"recompile_limit": 64}
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        config["trace_autograd_ops"] = True
    return torch._dynamo.config.patch(config)(compiled)
