"""Process settings for all tests."""

import os
import signal

# Background jobs of a shell ignore Ctrl-C, and child processes inherit that; some tests interrupt child processes.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Failing writes behave differently with buffered output, which is the default: test that.
os.environ.pop("PYTHONUNBUFFERED", None)
