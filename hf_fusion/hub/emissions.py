"""Estimates the CO2 emissions of a training from the time and the hardware that its run recorded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_fusion.utils.errors import FusionError
from hf_fusion.utils.extras import import_extra

# Watts of a processor core at work, a round figure for servers.
_CORE_WATTS = 12.0
# Watts of accelerators at full load, by the word in their name, as their makers publish them.
_ACCELERATOR_WATTS = {
    "H200": 700, "H100": 700, "A100": 400, "L40S": 350, "V100": 300, "A10G": 300, "A10": 150, "L4": 72, "T4": 70,
    "4090": 450, "3090": 350,
}  # fmt: skip
_JOULES = 3_600_000  # of a kilowatt hour


class EmissionsError(FusionError, ValueError):
    """The emissions cannot be estimated; the message says what to give."""


@dataclass(frozen=True)
class Emissions:
    """
    An estimate, with the numbers that it rests on.

    Args:
        grams (`float`): of CO2.
        seconds (`float`): the time of the training.
        watts (`float`): the power of the hardware.
        power_source (`str`): where `watts` is from.
        intensity (`float`): grams of CO2 for a kilowatt hour.
        country (`str`, *optional*): where the electricity is from.
    """

    grams: float
    seconds: float
    watts: float
    power_source: str
    intensity: float
    country: str | None = None


def estimate_emissions(
    seconds: float,
    hardware: Mapping[str, Any],
    intensity: float,
    watts: float | None = None,
    country: str | None = None,
) -> Emissions:
    """
    Estimates emissions as time * power * intensity.

    Args:
        seconds (`float`): the time of the training, from `metrics.json`.
        hardware (`Mapping`): from `environment.json`.
        intensity (`float`): grams of CO2 for a kilowatt hour of the electricity.
        watts (`float`, *optional*): the power of the hardware; by default that of the accelerators at full load, one
            for each process, or 12 W for each core at work.
        country (`str`, *optional*): where the electricity is from, for the card.

    Raises:
        EmissionsError: if the power of the accelerator is not known, or a number is not above 0.

    Example:

    ```python
    >>> from hf_fusion.hub.emissions import estimate_emissions
    >>> hardware = {"accelerators": [], "cores": 8, "threads": 4, "processes": 1}
    >>> estimate_emissions(3600, hardware, intensity=400).grams  # 48 W for an hour
    19.2
    ```
    """
    for name, value in (("intensity", intensity), ("watts", watts)):
        if value is not None and not 0 < value < float("inf"):
            raise EmissionsError(f"`{name}` must be above 0, got {value}.")
    power_source = "given"
    if watts is None:
        watts, power_source = _estimate_power(hardware)
    return Emissions(seconds * watts * intensity / _JOULES, seconds, watts, power_source, intensity, country)


def read_intensity(country: str) -> float:
    """
    Reads the grams of CO2 for a kilowatt hour in a country from the data of codecarbon.

    Args:
        country (`str`): its code of three letters, such as "DEU".

    Raises:
        EmissionsError: if codecarbon does not know the country.
        ImportError: if the extra `carbon` is not installed.
    """
    known = import_extra("codecarbon.input", "carbon").DataSource().get_global_energy_mix_data()
    if country.upper() not in known:
        raise EmissionsError(
            f"codecarbon knows no country {country!r:.20}: give its code of three letters, such as DEU."
        )
    return float(known[country.upper()]["carbon_intensity"])


def _estimate_power(hardware):
    processes = max(int(hardware.get("processes", 1)), 1)
    if hardware["accelerators"]:
        used = hardware["accelerators"][:processes]
        known = [_accelerator_watts(name) for name in used]
        return float(sum(known)), f"{len(used)} x {used[0]} at full load"
    cores = min(int(hardware.get("threads", hardware["cores"])) * processes, int(hardware["cores"]))
    return _CORE_WATTS * cores, f"{cores} processor core{'s' * (cores > 1)} at {_CORE_WATTS:g} W"


def _accelerator_watts(name):
    for word, watts in _ACCELERATOR_WATTS.items():
        if re.search(rf"\b{word}\b", name):
            return watts
    raise EmissionsError(f"The power of {name!r:.60} is not known: give it in watts (--watts).")
