"""Devices."""

from datetime import datetime

import attrs

from flip_async.models._base import (
    UNSET,
    HasInstants,
    LenientDatetime,
    Model,
    OpenEnum,
    UnsetType,
    as_enum,
    identifier,
    instant,
    number,
    one,
    text,
)

__all__ = [
    "Device",
    "DeviceAttributes",
    "DeviceBatteryAttributes",
    "DeviceConfiguration",
    "DeviceCreate",
    "DeviceType",
    "DeviceUpdate",
]


class DeviceType(OpenEnum):
    """What kind of device it is.

    Attributes:
        BATTERY: A battery.
        EV_CHARGER: A charger of electric vehicles; Flip's pages do not tell its attributes.
    """

    BATTERY = "BATTERY"
    EV_CHARGER = "EV_CHARGER"


def as_device_type(value: DeviceType | str) -> DeviceType:
    """A device type, or its text."""
    return as_enum(DeviceType, value, "type")


@attrs.frozen(kw_only=True)
class DeviceBatteryAttributes(Model):
    """What is fixed when a battery is installed.

    Attributes:
        battery_capacity_wh: Nominal capacity by the manufacturer's data, in watt-hours; a whole
            number of at least 0; required.
        battery_power_input_w: Continuous rated power, in watts; a whole number of at least 0;
            required. Flip's older texts call this the discharge power, against the name; ask Flip
            which they expect.
        battery_power_output_w: Continuous rated power in the other direction, in watts; a whole
            number of at least 0; required.

    Source:
        https://docs.flip.energy/api-6038136
    """

    battery_capacity_wh: int = attrs.field(metadata=number(at_least=0, whole=True))
    battery_power_input_w: int = attrs.field(metadata=number(at_least=0, whole=True))
    battery_power_output_w: int = attrs.field(metadata=number(at_least=0, whole=True))


@attrs.frozen(kw_only=True)
class DeviceConfiguration(Model):
    """Deprecated: what the user could set.

    Attributes:
        reserve_percentage: State of charge that the battery keeps, 0 to 100; required.
    """

    reserve_percentage: float = attrs.field(metadata=number(at_least=0, at_most=100))


@attrs.frozen(kw_only=True)
class DeviceCreate(Model):
    """A device to be commissioned: the smallest thing that can be controlled by itself.

    Attributes:
        id: Your own id of the device, any text that is not empty; required.
        manufacturer_name: Who made it; required.
        product_name: What they call it; required.
        serial_number: Its serial number; required.
        type: What it is; required by Flip, and a battery where you give none.
        attributes: Capacity and rated power; required.
        install_date: Day of the installation, or of the utility's permission to operate if that is
            another; with a time zone; required.
        site_id: Id of its site; the SDK fills it in where the site is given beside it.
        configuration: Deprecated; what the user can set.

    Source:
        https://docs.flip.energy/api-6038136
    """

    id: str = attrs.field(metadata=identifier())
    manufacturer_name: str = attrs.field(metadata=text())
    product_name: str = attrs.field(metadata=text())
    serial_number: str = attrs.field(metadata=text())
    type: DeviceType = attrs.field(
        default=DeviceType.BATTERY, converter=as_device_type, metadata=text()
    )
    attributes: DeviceBatteryAttributes = attrs.field(metadata=one(DeviceBatteryAttributes))
    install_date: datetime = attrs.field(metadata=instant())
    site_id: str | UnsetType = attrs.field(default=UNSET, metadata=identifier())
    configuration: DeviceConfiguration | UnsetType = attrs.field(
        default=UNSET, metadata=one(DeviceConfiguration)
    )


@attrs.frozen(kw_only=True)
class DeviceAttributes(Model):
    """What is fixed when a device is installed, as answers have it.

    Attributes:
        battery_capacity_wh: Nominal capacity, in watt-hours; `None` for what is no battery.
        battery_power_input_w: Continuous rated power, in watts; see `DeviceBatteryAttributes`.
        battery_power_output_w: Continuous rated power in the other direction, in watts.
    """

    battery_capacity_wh: float | None = None
    battery_power_input_w: float | None = None
    battery_power_output_w: float | None = None


@attrs.frozen(kw_only=True)
class Device(HasInstants):
    """A device as Flip knows it.

    Attributes:
        id: Your own id of the device.
        manufacturer_name: Who made it.
        product_name: What they call it.
        serial_number: Its serial number.
        type: What it is.
        attributes: Capacity and rated power of a battery. What a charger has is not
            documented, so a field may be `None`.
        created_at: When Flip first heard of it.
        updated_at: When it last changed.
        install_date: When it was installed; where Flip gives a day only, its first moment in UTC.
        site_id: Id of its site.
        configuration: Deprecated; what the user can set.

    Source:
        https://docs.flip.energy/api-6038137
    """

    _INSTANTS = ("created_at", "updated_at")

    id: str
    manufacturer_name: str
    product_name: str
    serial_number: str
    type: DeviceType
    attributes: DeviceAttributes
    created_at: datetime
    updated_at: datetime
    install_date: LenientDatetime | None = None
    site_id: str | None = None
    configuration: DeviceConfiguration | None = None


@attrs.frozen(kw_only=True)
class DeviceUpdate(Model):
    """What changes in a device: a field that is `UNSET` stays.

    Attributes:
        attributes: Capacity and rated power, all three.
        configuration: Deprecated; what the user can set.

    Source:
        https://docs.flip.energy/api-6038138
    """

    attributes: DeviceBatteryAttributes | UnsetType = attrs.field(
        default=UNSET, metadata=one(DeviceBatteryAttributes)
    )
    configuration: DeviceConfiguration | UnsetType = attrs.field(
        default=UNSET, metadata=one(DeviceConfiguration)
    )
