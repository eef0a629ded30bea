"""Signing keys, which may stand in a file that is replaced while the program runs [F11]."""

import asyncio
import logging
from typing import Final, cast

import attrs

from flip_async._aio._tasks import detached, in_thread
from flip_async._clock import Clock
from flip_async._secret_file import SecretFile
from flip_async.errors import ConfigurationError
from flip_async.webhooks._signature import SigningKeys

logger: Final = logging.getLogger("flip_async.webhooks")

_LOOK_EVERY_S: Final = 5.0
"""At most so often: whoever sends bad signatures shall not make us read a disk at will."""


@attrs.frozen
class FixedKeys:
    """Keys that are always the same.

    Attributes:
        now: The keys.
    """

    now: SigningKeys

    async def look_again(self, *, within_s: float) -> bool:
        """Whether there are new ones; there never are."""
        return False


class MountedKeys:
    """Keys of a file, which is read again where a signature fits none of them.

    What changes: the keys, and when the file may be read again, by the task that reads. Only one
    event loop touches them.

    Args:
        file: The file.
        clock: Time.

    Raises:
        ConfigurationError: The file cannot be read, or has no key.

    Attributes:
        now: The keys.
    """

    def __init__(self, file: SecretFile, clock: Clock) -> None:
        self._file: Final = file
        self._clock: Final = clock
        self._reading: asyncio.Task[None] | None = None
        self._rests_until_s = 0.0
        self.now = self._keys_in(file.first)

    def _keys_in(self, secret: object) -> SigningKeys:
        return SigningKeys.of(cast("SigningKeys", secret), self._file.field)

    async def look_again(self, *, within_s: float) -> bool:
        """Read the file again, unless that was just done; whether there are new keys.

        A disk that hangs holds nobody for longer than `within_s`; the reading goes on.
        """
        before = self.now
        if self._reading is None:
            if self._clock.monotonic() < self._rests_until_s:
                return False
            self._reading = detached(self._read())
            self._reading.add_done_callback(self._has_read)
        # All who come meanwhile wait for the one.
        await asyncio.wait({self._reading}, timeout=within_s)
        return self.now is not before

    def _has_read(self, _: "asyncio.Task[None]") -> None:
        self._reading = None
        self._rests_until_s = self._clock.monotonic() + _LOOK_EVERY_S

    async def _read(self) -> None:
        try:
            keys = self._keys_in(await in_thread(self._file.read, name="signing keys"))
        except ConfigurationError as error:
            logger.warning("the signing keys stay as they are: %s", error)
            return
        if keys.digests != self.now.digests:
            self.now = keys
            logger.info("there are new signing keys in the file of %s", self._file.variable)
