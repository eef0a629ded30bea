"""`flip.commands`: what devices shall do."""

from typing import Final, Unpack

import attrs

from flip_async._endpoint import Endpoint
from flip_async._http._pages import Pages
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async.models._base import UNSET, UnsetType
from flip_async.models.commands import Command, CommandStatusUpdate, DeviceStatus

LIST: Final = Endpoint(method="GET", path="/v1/commands", token="client", returns=list[Command])
UPDATE_STATUS: Final = Endpoint(
    method="PATCH", path="/v1/command/{id}", token="client", returns=Command
)


@attrs.frozen
class Commands:
    """What devices shall do."""

    _session: Session

    def list(
        self, *, max_items: int | None = None, **options: Unpack[CallOptions]
    ) -> Pages[Command]:
        """List commands; Flip recommends webhooks, and polling at most once a minute.

        Which commands it gives, and whether it pages, is not documented.

        Args:
            max_items: How many to give at most.
            **options: What every method takes.

        Returns:
            An async iterator over commands; `await` gives a list.

        Source:
            https://docs.flip.energy/doc-512546
        """
        return self._session.pages(LIST, max_items=max_items, **options)

    async def update_status(
        self,
        command_id: str,
        device_status: DeviceStatus | str,
        *,
        reason: str | UnsetType = UNSET,
        **options: Unpack[CallOptions],
    ) -> Command:
        """Tell Flip what became of a command, within 15 minutes.

        Args:
            command_id: Flip's id of the command.
            device_status: `OK` where the device has it scheduled, `FAILED_OFFLINE` or
                `FAILED_FAULT` where it cannot.
            reason: Why, for people.
            **options: What every method takes.

        Returns:
            The command as it is now.

        Raises:
            InvalidArgumentError: The status is none of these; no request was made.

        Source:
            https://docs.flip.energy/api-6039923
        """
        body = CommandStatusUpdate(device_status=device_status, device_status_reason=reason)
        return await self._session.call(UPDATE_STATUS, command_id, body=body, **options)
