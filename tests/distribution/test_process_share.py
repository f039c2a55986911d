"""The parts of a data set: together the whole, and as many in each."""

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad.training.process_share import share_of


def parts(data, training, count=3):
    return [share_of(data, "x", count, i, training) for i in range(count)]


def test_arrays():
    x = np.arange(10)
    evaluated = parts(x, training=False)
    assert [list(p) for p in evaluated] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    # The first come twice, so that no process has to wait for another.
    trained = parts(keras.ops.convert_to_tensor(x), training=True)
    assert [list(p) for p in trained] == [
        [0, 3, 6, 9],
        [1, 4, 7, 0],
        [2, 5, 8, 1],
    ]
    assert [len(p) for p in parts(list(x[:6]), training=True)] == [2, 2, 2]


@pytest.mark.once
@pytest.mark.parametrize("pipeline", ["tf.data", "py_dataset"])
def test_data_sets(pipeline):
    x = np.arange(8 * 16, dtype="float32").reshape(8, 4, 4, 1) / 128
    dataset = keras_adaad.data.load_arrays(x, batch_size=1, pipeline=pipeline)

    def places(part):
        return [round(float(np.array(batch).flat[0]) * 8) for batch in part]

    evaluated = [places(part) for part in parts(dataset, training=False)]
    assert evaluated == [[0, 3, 6], [1, 4, 7], [2, 5]]
    trained = [places(part) for part in parts(dataset, training=True)]
    assert trained == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.once
def test_training_order_is_one_for_all():
    """Epoch after epoch, each image is seen by one process."""
    x = np.arange(8, dtype="float32").reshape(8, 1, 1, 1) / 8
    datasets = [
        keras_adaad.data.load_arrays(
            x, None, 2, True, padding=0, pipeline="py_dataset"
        )
        for _ in range(2)
    ]
    halves = [
        share_of(dataset, "x", 2, i, training=True)
        for i, dataset in enumerate(datasets)
    ]
    orders = []
    for epoch in range(2):
        for dataset, half in zip(datasets, halves, strict=True):
            keras_adaad.data.SetEpoch(dataset).on_epoch_begin(epoch)
            half.on_epoch_begin()
        orders.append([np.ravel(batch) for half in halves for batch in half])
        assert sorted(np.concatenate(orders[-1])) == sorted(np.ravel(x))
    assert (np.concatenate(orders[0]) != np.concatenate(orders[1])).any()


@pytest.mark.once
def test_what_cannot_be_divided_is_refused():
    import torch
    from torch.utils.data import DataLoader
    from torch.utils.data import DistributedSampler

    with pytest.raises(ValueError, match="`x`.*each of the 3 processes"):
        parts(np.zeros(2), training=False)
    with pytest.raises(ValueError, match="can't share argument `x`"):
        parts((batch for batch in [1]), training=True)
    images = torch.utils.data.TensorDataset(torch.zeros(6, 1))
    with pytest.raises(ValueError, match="DistributedSampler"):
        parts(DataLoader(images), training=True)
    sampler = DistributedSampler(images, num_replicas=3, rank=0)
    loader = DataLoader(images, sampler=sampler)
    assert share_of(loader, "x", 3, 0, training=True) is loader
