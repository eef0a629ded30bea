"""An emulator beside the test, for what has an event loop of its own."""

from flip_async.emulator import Emulator

ThreadedEmulator = Emulator
"""As `with` runs it: in a thread."""
