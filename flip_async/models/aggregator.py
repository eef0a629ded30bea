"""What the Aggregator API takes."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from flip_async.models._base import Model, alike, free_form, identifier, instant, many, one, text
from flip_async.models.devices import DeviceType, as_device_type
from flip_async.models.sites import CommissionSite

__all__ = ["AggregatorCommission", "AggregatorDevice", "FleetData", "FleetRecord"]


@attrs.frozen(kw_only=True)
class FleetRecord(Model):
    """A record of a customer-relationship system.

    Attributes:
        external_id: Its id there; required.
        data: What it holds, in any form that JSON has; required.
        record_type: What it is about; `site` is the one that is documented.
    """

    external_id: str = attrs.field(metadata=identifier())
    data: Mapping[str, object] = attrs.field(metadata=free_form())
    record_type: str = attrs.field(default="site", metadata=text())


@attrs.frozen(kw_only=True)
class FleetData(Model):
    """Records to push.

    Attributes:
        records: The records, at least one; required.
    """

    records: Sequence[FleetRecord] = attrs.field(eq=alike, metadata=many(FleetRecord, at_least=1))


@attrs.frozen(kw_only=True)
class AggregatorDevice(Model):
    """A device to be registered.

    Attributes:
        id: Your own id of it; required.
        type: What it is; required by Flip, and a battery where you give none.
        technology_provider_identifier: Whose it is, such as `DURACELL`; required.
        install_date: When it was installed, with a time zone; required.
    """

    id: str = attrs.field(metadata=identifier())
    type: DeviceType = attrs.field(
        default=DeviceType.BATTERY, converter=as_device_type, metadata=text()
    )
    technology_provider_identifier: str = attrs.field(metadata=text())
    install_date: datetime = attrs.field(metadata=instant())


@attrs.frozen(kw_only=True)
class AggregatorCommission(Model):
    """A site to be registered with its devices, at least one.

    Attributes:
        site: The site; required.
        devices: Its devices, at least one; required.
    """

    site: CommissionSite = attrs.field(metadata=one(CommissionSite))
    devices: Sequence[AggregatorDevice] = attrs.field(
        eq=alike, metadata=many(AggregatorDevice, at_least=1)
    )
