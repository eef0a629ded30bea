"""Batteries that are not there: put what speaks to yours in their place."""

from datetime import UTC, datetime

from flip_async.commands import CommandFailed
from flip_async.models import Command, CommandStatus, TelemetryPoint

CAPACITY_WH = 10_000


class Batteries:
    """What they were told, and what they measure."""

    def __init__(self, device_ids: list[str]) -> None:
        self._stored_wh = dict.fromkeys(device_ids, CAPACITY_WH / 2)
        self._schedule: dict[str, Command] = {}

    async def obey(self, command: Command) -> None:
        """Take a command, its change or its cancelation; it may come twice around a crash."""
        if command.device_id not in self._stored_wh:
            raise CommandFailed("FAILED_OFFLINE", "This worker does not know the battery")
        if command.status == CommandStatus.OK:
            self._schedule[command.id] = command
            print("schedule", command.device_id, command.battery_commands.mode, flush=True)
        else:
            self._schedule.pop(command.id, None)
            print("forget", command.device_id, flush=True)

    def measure(self, duration_s: float) -> list[TelemetryPoint]:
        """A point of each battery."""
        return [
            TelemetryPoint(
                device_id=device_id,
                start_time=datetime.now(UTC),
                duration_s=duration_s,
                last_is_online=True,
                last_mode="STANDBY",
                last_is_grid_online=True,
                battery_last_power_charge_w=0,
                battery_last_power_discharge_w=0,
                battery_total_energy_charge_wh=0,
                battery_total_energy_discharge_wh=0,
                battery_last_stored_energy_wh=stored_wh,
                battery_last_capacity_energy_wh=CAPACITY_WH,
                battery_last_state_of_charge_percentage=100 * stored_wh / CAPACITY_WH,
                battery_last_state_of_health_percentage=99,
                home_last_power_w=600,
                home_total_energy_wh=50,
                solar_last_power_w=2_100,
                solar_total_energy_wh=175,
            )
            for device_id, stored_wh in self._stored_wh.items()
        ]
