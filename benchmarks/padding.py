"""The cost of symmetric padding in MobileNetV2, with and without folding.

    python -m benchmarks.padding [--batch 32] [--rounds 7]

Milliseconds of a forward pass, and of the work of an attack step (a forward
pass and the gradient at the input), in inference mode, on each backend in a new
process. "layers" are the unchanged Keras layers. "twin" is the network that
attacks run, which fuses padding, BatchNorm and convolution. "same" is the same
network with Keras's "same" padding. Its logits differ, but it shows the time
without padding layers.
"""

import argparse
import os
import subprocess
import sys
import time

BACKENDS = ("tensorflow", "jax", "torch")


def measure(batch, rounds):
    import keras
    import numpy as np

    import keras_adaad
    from keras_adaad import backend
    from keras_adaad.frozen.network import check_network
    from keras_adaad.models.network import Network

    def build(symmetric):
        pad = Network._pad

        def same(self, x, size, strides):
            return x, "same"

        Network._pad = pad if symmetric else same
        try:
            return keras_adaad.models.MobileNetV2()
        finally:
            Network._pad = pad

    x = np.random.default_rng(0).uniform(size=(batch, 32, 32, 3))
    x = keras.ops.convert_to_tensor(x, "float32")
    runs = {}
    for padding, symmetric in (("symmetric", True), ("same", False)):
        model = build(symmetric)
        network = check_network(model, x)

        def layers(x, model=model):
            return model(x, training=False)

        def twin(x, network=network):
            return network(x)

        for name, logits in (("layers", layers), ("twin", twin)):

            def gradient(x, logits=logits):
                return backend.input_gradient(
                    lambda x: keras.ops.sum(logits(x) ** 2, axis=-1), x
                )

            for what, function in (("forward", logits), ("step", gradient)):
                runs[what, name, padding] = backend.compile_function(
                    function, model
                )
    seconds = {key: [] for key in runs}
    for round_ in range(rounds + 1):
        for key, function in runs.items():
            start = time.perf_counter()
            keras.ops.convert_to_numpy(function(x))
            if round_:
                seconds[key].append(time.perf_counter() - start)
    for what in ("forward", "step"):
        row = "".join(
            f"{1000 * np.median(seconds[what, name, padding]):10.0f}"
            for name in ("layers", "twin")
            for padding in ("symmetric", "same")
        )
        print(f"{keras.config.backend():12}{what:8}{row}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return measure(arguments.batch, arguments.rounds)
    print(f"{'ms':20}{'layers':>10}{'same':>10}{'twin':>10}{'same':>10}")
    for backend in arguments.backends:
        subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.padding", "--one"),
                *("--batch", str(arguments.batch)),
                *("--rounds", str(arguments.rounds)),
            ],
            env={**os.environ, "KERAS_BACKEND": backend},
            check=True,
        )


if __name__ == "__main__":
    main()
