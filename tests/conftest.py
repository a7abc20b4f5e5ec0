"""Process settings for all tests."""

import os
import signal

# Background jobs of a shell ignore Ctrl-C, and child processes inherit that; some tests interrupt child processes.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The tests run in two processes, and weights are compared bit for bit: the number of threads must not follow the load.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Failing writes behave differently with buffered output, which is the default: test that.
os.environ.pop("PYTHONUNBUFFERED", None)
