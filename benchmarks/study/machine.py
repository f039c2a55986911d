"""Properties of the machine."""

import os
import pathlib
import platform

CPU_FLAGS = ("amx_bf16", "avx512_bf16")


def training_policy():
    """Returns the dtype policy to train with on this machine.

    It is mixed bfloat16 on a GPU, or on a processor that multiplies bfloat16
    numbers itself. Elsewhere bfloat16 would be emulated, and slower.
    """
    on_gpu = device() != "cpu"
    fast = on_gpu or set(CPU_FLAGS) & processor_flags()
    return "mixed_bfloat16" if fast else "float32"


def device():
    """Returns the name of the GPU, or "cpu"."""
    from keras_adaad import backend

    return backend.describe()["device"]


def processor_flags(path="/proc/cpuinfo"):
    """Returns the processor's features, as listed by Linux."""
    path = pathlib.Path(path)
    lines = path.read_text().splitlines() if path.exists() else []
    return {
        flag
        for line in lines
        if line.startswith("flags")
        for flag in line.partition(":")[2].split()
    }


def environment():
    """Returns the entry of a run's JSON about its environment."""
    import keras

    import keras_adaad

    return {
        "keras_adaad": keras_adaad.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
        "cores": len(cores()),
        "device": device(),
        "backend": keras.config.backend(),
    }


def cores():
    """Returns the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


def keep_to(numbers):
    """Restricts this process to some cores, if the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, numbers)
