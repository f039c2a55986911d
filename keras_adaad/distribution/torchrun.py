"""Several processes under `torchrun`, on the PyTorch backend."""

from keras_adaad import backend


def initialize():
    """Joins the processes that `torchrun` started, for data parallel training.

    Call it before any model is made. Communication is NCCL, and this process
    has the GPU of its local rank, where Keras's device is CUDA; else it is
    gloo, on CPUs. Without `torchrun` nothing happens: the same script is then
    one process.

    From then on `fit` and `evaluate` of the methods of `keras_adaad` train one
    model together. Call both in every process:

    - **Data**: each process takes every n-th image of arrays, every n-th batch
      of a `keras.utils.PyDataset` or `tf.data.Dataset`. In training all have
      as many, so that none waits for ever: the first images come twice where
      the number does not divide, and the last batches of a data set are left
      out. A `DataLoader` needs a `DistributedSampler`. `batch_size` is that of
      a process, as in PyTorch: a step sees n times as many images.
    - **Weights** and all other state start as they are in the process of rank
      0. Gradients are averaged before the optimizer sees them, those of
      `weight_perturbation` too.
    - **BatchNorm** normalises with the batch of its own process. After each
      step the moving statistics, like the `states` of a method, are averaged.
    - **Logs** at the end of an epoch, and what `evaluate` returns, are over
      all images, the same in every process. Those of a batch are its own.
    - **Files**: the process of rank 0 alone writes, and shows progress. Keras's
      `ModelCheckpoint`, `CSVLogger`, `TensorBoard` and `BackupAndRestore`, and
      our `StudentCheckpoint` and `StochasticWeightAveraging`, are left to it.
      All restore from its backup, which must lie where all can read it. Other
      callbacks run everywhere.

    `train_on_batch` averages too. What it is given is the process's own part,
    and the weights must be equal before it.

    Where the installed Keras distributes on PyTorch by itself (from 3.16 on),
    all this is left to `keras.distribution.DataParallel`.

    Returns:
        The rank of this process, from 0; 0 without `torchrun`.

    Raises:
        ValueError: If the backend is not PyTorch, or Keras's device is
            neither a CPU nor a CUDA GPU.

    Example:

    ```python
    # torchrun --nproc-per-node 2 train.py
    rank = keras_adaad.distribution.initialize()
    distiller = keras_adaad.AdaAD(teacher, student)
    distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    distiller.fit(x_train, y_train, batch_size=64, epochs=200)
    if rank == 0:
        student.save("student.keras")
    ```
    """
    return backend.processes.start()
