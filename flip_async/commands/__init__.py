"""Commands: one place where a device maker says what a device does with each of them.

A `CommandProcessor` takes commands from webhooks, by polling, or from both, hands each version
to your function once, and acknowledges it to Flip.
"""

from flip_async.commands._ledger import (
    CommandLedger,
    Holder,
    LedgerEntry,
    MemoryCommandLedger,
)
from flip_async.commands._processor import CommandProcessor, ProcessorStats
from flip_async.commands._workers import CommandFailed

__all__ = [
    "CommandFailed",
    "CommandLedger",
    "CommandProcessor",
    "Holder",
    "LedgerEntry",
    "MemoryCommandLedger",
    "ProcessorStats",
]
