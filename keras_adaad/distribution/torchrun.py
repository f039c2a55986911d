"""Several processes under `torchrun`, on the PyTorch backend."""

from keras_adaad import backend


def initialize() -> int:
    """Joins the processes that `torchrun` started, for data parallel training.

    Call it before any model is created. If Keras's device is CUDA, the
    processes communicate by NCCL, and each uses the GPU of its local rank.
    Otherwise they communicate by gloo, on CPUs. Without `torchrun` nothing
    happens: the same script then runs in one process.

    From then on, `fit` and `evaluate` of the methods of `keras_adaad` work on
    one model together. Call both in every process:

    - **Data**: each of n processes takes every n-th image of arrays, or every
      n-th batch of a `keras.utils.PyDataset` or `tf.data.Dataset`. In training
      all processes get the same number, so that none waits forever. If the
      total is not divisible by n, the first images of arrays are used twice,
      but the last batches of a data set are left out. A `DataLoader` needs a
      `DistributedSampler`. `batch_size` is per process, as in PyTorch: a step
      sees n times as many images.
    - **Weights** and all other state start with the values of rank 0.
      Gradients are averaged before the optimizer sees them, and so are those of
      `weight_perturbation`.
    - **BatchNorm** normalises over the batch of its own process. After each
      step the moving statistics and the `states` of a method are averaged.
    - **Logs** at the end of an epoch, and the results of `evaluate`, are over
      all images and the same in every process. Logs of a batch are those of
      the process.
    - **Files**: only rank 0 writes files and shows progress. Only there do
      Keras's `ModelCheckpoint`, `CSVLogger`, `TensorBoard` and
      `BackupAndRestore`, and our `StudentCheckpoint` and
      `StochasticWeightAveraging`, write. All processes restore from the
      backup, so all must be able to read it. Other callbacks run everywhere.

    `train_on_batch` averages too. It takes the process's own part of the
    batch, and the weights must be equal in all processes before.

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
