import sys
from types import SimpleNamespace

import pytest

from hf_fusion.hub.emissions import EmissionsError, estimate_emissions, read_intensity

CPU = {"accelerators": [], "cores": 8, "threads": 4, "processes": 1}


@pytest.mark.parametrize(
    ("hardware", "watts", "power", "source"),
    [
        (CPU, None, 48, "4 processor cores at 12 W"),
        ({**CPU, "processes": 3}, None, 96, "8 processor cores at 12 W"),
        ({"accelerators": [], "cores": 2}, None, 24, "2 processor cores at 12 W"),
        (
            {**CPU, "accelerators": ["NVIDIA A100-SXM4-80GB"] * 4, "processes": 2},
            None,
            800,
            "2 x NVIDIA A100-SXM4-80GB",
        ),
        ({**CPU, "accelerators": ["NVIDIA L40S"]}, None, 350, "1 x NVIDIA L40S at full load"),
        ({**CPU, "accelerators": ["Tesla T4"]}, 50, 50, "given"),
    ],
)
def test_power_times_time_times_intensity(hardware, watts, power, source):
    estimate = estimate_emissions(1800, hardware, 400, watts)
    assert estimate.watts == power and estimate.power_source.startswith(source)
    assert estimate.grams == pytest.approx(power / 1000 * 0.5 * 400)


def test_unknown_power_and_wrong_numbers():
    with pytest.raises(EmissionsError, match="give it in watts"):
        estimate_emissions(1, {**CPU, "accelerators": ["Quantum 9"]}, 400)
    for numbers in ({"intensity": 0}, {"intensity": 400, "watts": -1}, {"intensity": float("nan")}):
        with pytest.raises(EmissionsError, match="above 0"):
            estimate_emissions(1, CPU, **numbers)


def test_countries_of_codecarbon(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(ImportError, match=r"pip install 'hf-fusion\[carbon\]'"):
        read_intensity("DEU")

    class DataSource:
        def get_global_energy_mix_data(self):
            return {"DEU": {"carbon_intensity": 380.95}}

    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "codecarbon.input", SimpleNamespace(DataSource=DataSource))
    assert read_intensity("deu") == 380.95
    with pytest.raises(EmissionsError, match="no country 'XYZ'"):
        read_intensity("XYZ")
