"""Layouts of networks that are split over devices."""

import re

import keras

from keras_adaad import checks


def wide_teacher_layout(
    device_mesh: keras.distribution.DeviceMesh,
    teacher: keras.Model,
    axis: str = "model",
    min_channels: int = 64,
) -> keras.distribution.LayoutMap:
    """Returns the layout that splits a wide teacher over devices.

    A variable is split along its last axis if that is wide enough and divisible
    by the number of devices: the output channels of a convolution or dense
    layer, and the vectors of the BatchNorm beside it. Everything else is
    replicated on every device: the narrow layers, the classifier's few logits,
    and the student.

    A `keras.distribution.LayoutMap` takes effect when a variable is created. So
    the teacher passed here is only inspected. Under the distribution, create
    the teacher again: load it from its file, or build it and set its weights.

    Variables are matched by path. A student whose layers have the same names as
    the teacher's gets their layout too. This changes where it is computed, but
    not the results.

    Args:
        device_mesh: A `keras.distribution.DeviceMesh`, e.g. of the shape
            `(2, 4)` and the axes `("batch", "model")`: two groups of four
            devices. Each group takes a part of the batch, and each of its
            devices a part of the teacher.
        teacher: The teacher, or any network of the same architecture; a built
            `keras.Model`.
        axis: Name of the mesh axis to split the teacher along. Defaults to
            `"model"`.
        min_channels: Minimum length of the last axis of a variable to split.
            Splitting shorter ones saves little memory, and costs communication
            between the devices. Defaults to `64`.

    Returns:
        A `keras.distribution.LayoutMap` for `keras.distribution.ModelParallel`.

    Raises:
        ValueError: If the mesh has no such axis, the teacher is not built, or
            no variable is wide enough.

    Example:

    ```python
    mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
    teacher = keras.models.load_model("teacher.keras")
    layout = keras_adaad.distribution.wide_teacher_layout(mesh, teacher)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout)
    )
    teacher = keras.models.load_model("teacher.keras")  # Now in parts.
    distiller = keras_adaad.AdaAD(teacher, make_student())
    ```
    """
    checks.check_model("teacher", teacher, allow_probabilities=True)
    axes = tuple(device_mesh.axis_names)
    if axis not in axes:
        raise ValueError(
            "Argument `axis` must be an axis of `device_mesh`. "
            f"Received: axis={axis!r}, device_mesh.axis_names={axes}"
        )
    if not teacher.built:
        raise ValueError(
            "Argument `teacher` must be built, for its variables decide the "
            "layout. Call it on an image first. "
            f"Received: teacher={teacher.name!r}, not built"
        )
    devices = device_mesh.shape[axes.index(axis)]
    layout_map = keras.distribution.LayoutMap(device_mesh)
    for path, shape in _shapes(teacher).items():
        if shape[-1] >= min_channels and shape[-1] % devices == 0:
            layout = (None,) * (len(shape) - 1) + (axis,)
            layout_map[re.escape(path)] = layout
    if not layout_map:
        raise ValueError(
            f"No variable of `teacher` has a last axis of {min_channels} or "
            f"more that divides by {devices} devices, so none can be divided. "
            "Use `keras.distribution.DataParallel`, or lower `min_channels`. "
            f"Received: teacher={teacher.name!r}, min_channels={min_channels}"
        )
    return layout_map


def _shapes(model):
    """Returns the shapes of a model's variables by path, without scalars."""
    return {v.path: tuple(v.shape) for v in model.weights if len(v.shape)}
