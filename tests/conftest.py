"""What holds for every test."""

import os
import signal

# A shell's background jobs ignore Ctrl-C, and so would the commands that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# What a person has set must not hide what happens to others: buffered output behaves otherwise when it fails.
os.environ.pop("PYTHONUNBUFFERED", None)
