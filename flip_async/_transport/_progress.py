"""How far a request has come: what a deadline or a close means for it."""

from typing import Final, final

EXTENSION: Final = "flip_async.progress"
"""Under this name it stands in the extensions of a request."""

AS_IT_IS: Final = "flip_async.as_it_is"
"""Under this name a request says that a client's headers and params are not for it."""

NOTE: Final = "flip_async"
"""Under this name a note to the user stands in the extensions of an answer."""


@final
class Progress:
    """Says whether a request may have reached the server.

    The session makes one for a request that must not be repeated by guess; whoever sends it
    tells it what he does, and so does httpcore, as its trace hook.
    """

    __slots__ = ("may_have_arrived",)

    def __init__(self) -> None:
        self.may_have_arrived = False

    def extensions(self) -> dict[str, object]:
        """What to put into the request's extensions."""
        return {EXTENSION: self, "trace": self}

    def waits(self) -> None:
        """It is in our hands: before the token, in the queue, or refused."""
        self.may_have_arrived = False

    def leaves(self) -> None:
        """It goes to a transport that may tell no more (a mock, a user's own)."""
        self.may_have_arrived = True

    async def __call__(self, event: str, info: object) -> None:
        # httpcore: a new connection comes first, so that nothing is sent yet.
        if event.endswith("send_request_headers.started"):
            self.may_have_arrived = True
        elif event == "connection.connect_tcp.started":
            self.may_have_arrived = False
