"""Pictures for TensorBoard, on every backend.

Keras's own `TensorBoard` callback writes through TensorFlow. For pictures the
package `tensorboard` alone is enough.
"""

import importlib.util
import io
import os
import time


def check_installed():
    """Raises if a package that draws or writes is missing."""
    missing = [
        name
        for name in ("matplotlib", "tensorboard")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ImportError(
            "Argument `log_dir` needs packages that are not installed. "
            f"Run `pip install {' '.join(missing)}`."
        )


def write_pictures(log_dir, figures, step):
    """Writes figures, a dict by name, to the folder `pictures` of `log_dir`."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    images = [
        Summary.Value(tag=name, image=Summary.Image(**_encoded(figure)))
        for name, figure in figures.items()
    ]
    # A new file each time: an open one is cut off when a run is killed.
    writer = EventFileWriter(os.path.join(log_dir, "pictures"))
    writer.add_event(
        Event(wall_time=time.time(), step=step, summary=Summary(value=images))
    )
    writer.close()


def _encoded(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    width, height = figure.get_size_inches() * 100
    return {
        "encoded_image_string": file.getvalue(),
        "width": round(width),
        "height": round(height),
        "colorspace": 4,  # RGBA
    }
