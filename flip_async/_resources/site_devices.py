"""`flip.site(site_id).devices`."""

from typing import Final, Unpack

import attrs

from flip_async._endpoint import NO_CONTENT, Endpoint
from flip_async._http._pages import Pages
from flip_async._http._session import Session
from flip_async._options import CallOptions
from flip_async.models._base import UNSET, require
from flip_async.models.devices import Device, DeviceBatteryAttributes, DeviceCreate, DeviceUpdate

LIST: Final = Endpoint(
    method="GET", path="/v1/site/{siteId}/devices", token="site", returns=list[Device]
)
CREATE: Final = Endpoint(
    method="POST", path="/v1/site/{siteId}/devices", token="client", returns=Device
)
GET: Final = Endpoint(
    method="GET", path="/v1/site/{siteId}/device/{id}", token="site", returns=Device
)
UPDATE: Final = Endpoint(
    method="PATCH", path="/v1/site/{siteId}/device/{id}", token="site", returns=Device
)
DELETE: Final = Endpoint(
    method="DELETE", path="/v1/site/{siteId}/device/{id}", token="site", returns=NO_CONTENT
)


@attrs.frozen
class SiteDevices:
    """The devices of a site."""

    _session: Session
    _site_id: str

    def list(
        self, *, max_items: int | None = None, **options: Unpack[CallOptions]
    ) -> Pages[Device]:
        """List the devices.

        Args:
            max_items: How many to give at most.
            **options: What every method takes.

        Returns:
            An async iterator over devices; `await` gives a list.

        Source:
            https://docs.flip.energy/api-6038137
        """
        return self._session.pages(LIST, self._site_id, max_items=max_items, **options)

    async def create(self, device: DeviceCreate, **options: Unpack[CallOptions]) -> Device:
        """Add a device to a site that is commissioned; takes the client's credential.

        Args:
            device: The device; its `site_id` is filled in.
            **options: What every method takes.

        Returns:
            The device.

        Raises:
            InvalidArgumentError: A field breaks its rule; no request was made.
            OutcomeUnknownError: It was sent and no answer came.

        Source:
            https://docs.flip.energy/api-9676085
        """
        require(device, DeviceCreate, "device")
        if device.site_id is UNSET:
            device = attrs.evolve(device, site_id=self._site_id)
        return await self._session.call(CREATE, self._site_id, body=device, **options)

    async def get(self, device_id: str, **options: Unpack[CallOptions]) -> Device:
        """Read a device.

        Args:
            device_id: Your id of the device.
            **options: What every method takes.

        Returns:
            The device.

        Source:
            https://docs.flip.energy/api-6038137
        """
        return await self._session.call(GET, self._site_id, device_id, **options)

    async def update(
        self,
        device_id: str,
        *,
        attributes: DeviceBatteryAttributes,
        **options: Unpack[CallOptions],
    ) -> Device:
        """Change what was fixed at the installation, after a mistake or an extension.

        Args:
            device_id: Your id of the device.
            attributes: Capacity and rated power.
            **options: What every method takes.

        Returns:
            The device as it is now.

        Raises:
            InvalidArgumentError: A field breaks its rule; no request was made.

        Source:
            https://docs.flip.energy/api-6038138
        """
        body = DeviceUpdate(attributes=attributes)
        return await self._session.call(UPDATE, self._site_id, device_id, body=body, **options)

    async def delete(self, device_id: str, **options: Unpack[CallOptions]) -> None:
        """Remove a device; one that a lost first attempt has removed is no error.

        Args:
            device_id: Your id of the device.
            **options: What every method takes.

        Source:
            https://docs.flip.energy/oem/authentication
        """
        await self._session.call(DELETE, self._site_id, device_id, **options)
