"""The environment of the tests, and of the processes that they start."""

import os

# Before any framework starts. XLA optimizes little, because compilation takes
# nearly all the time of the tests, and compiles on the thread that asks.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2"
    " --xla_backend_optimization_level=0"
    " --xla_cpu_multi_thread_eigen=false"
    " --xla_cpu_parallel_codegen_split_count=1"
    " --xla_cpu_use_fusion_emitters=false",
)
# The networks of the tests are small: threads that share one wait for each
# other longer than they compute. The cores are for several test processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests import compilation_cache  # noqa: F401


def pytest_configure(config):
    """Starts the frameworks, but not where the tests are only handed out."""
    if getattr(config.option, "numprocesses", None):
        return
    # What they say on the way is for nobody.
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.resume_global_capture()
    try:
        config.pluginmanager.import_plugin("tests.fixtures")
    finally:
        capture.suspend_global_capture()
        capture.read_global_capture()
