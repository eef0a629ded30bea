"""Ids, secrets and luck: new each time, or the same each time where there is a seed."""

import base64
import random
import uuid
from typing import Final


class RandomSource:
    """One stream of random numbers, for one purpose.

    With a seed each purpose has a stream of its own: a webhook more does not change the ids of
    commands. Without one they are the machine's, and cannot be guessed.
    """

    def __init__(self, seed: int | None, purpose: str) -> None:
        self._seed: Final = seed
        self._purpose: Final = purpose
        self._random: random.Random = self._begin()

    def _begin(self) -> random.Random:
        if self._seed is None:
            return random.SystemRandom()
        return random.Random(f"{self._seed} {self._purpose}")  # noqa: S311  # which can be guessed

    def restart(self) -> None:
        """Begin anew: with a seed, what comes is what came first."""
        self._random = self._begin()

    def luck(self) -> float:
        """A number from 0 up to 1."""
        return self._random.random()

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def hex(self, length: int) -> str:
        """So many bytes, as hexadecimal digits."""
        return self._bytes(length).hex()

    def base64(self, length: int) -> str:
        return base64.b64encode(self._bytes(length)).decode("ascii")

    def text(self, length: int) -> str:
        """So many bytes, as a text for URLs and headers."""
        return base64.urlsafe_b64encode(self._bytes(length)).decode("ascii").rstrip("=")

    def _bytes(self, length: int) -> bytes:
        return self._random.getrandbits(8 * length).to_bytes(length, "big")
