"""The typed services, called with stubs made from `proto/` as this starts."""

import importlib
import pathlib
import sys
import tempfile

import grpc
import numpy as np
from grpc_tools import protoc

from bundled import ROOT

PACKAGES = ["common", "features", "outcomes", "range", "charging", "battery", "thermal", "vision", "registry"]


def _stubs(package):
    return (
        importlib.import_module(f"ev.{package}.v1.{package}_pb2"),
        importlib.import_module(f"ev.{package}.v1.{package}_pb2_grpc"),
    )


def _generate():
    directory = tempfile.TemporaryDirectory(prefix="evserve-stubs-")
    proto = ROOT / "proto"
    bundled = pathlib.Path(protoc.__file__).parent / "_proto"
    # All of a package: one file may import another of it.
    sources = [str(path.relative_to(proto)) for package in PACKAGES for path in sorted(proto.glob(f"ev/{package}/v1/*.proto"))]
    out = directory.name
    arguments = ["protoc", f"-I{proto}", f"-I{bundled}", f"--python_out={out}", f"--grpc_python_out={out}", *sources]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc cannot compile {', '.join(sources)}")
    sys.path.insert(0, out)
    return directory


_DIRECTORY = _generate()
RANGE, RANGE_GRPC = _stubs("range")
CHARGING, CHARGING_GRPC = _stubs("charging")
BATTERY, BATTERY_GRPC = _stubs("battery")
THERMAL, THERMAL_GRPC = _stubs("thermal")
VISION, VISION_GRPC = _stubs("vision")
REGISTRY, REGISTRY_GRPC = _stubs("registry")
COMMON, _ = _stubs("common")

_TARGETS = {
    "battery-soh": BATTERY.TARGET_STATE_OF_HEALTH,
    "battery-rul": BATTERY.TARGET_REMAINING_USEFUL_LIFE,
    "battery-temperature": BATTERY.TARGET_TEMPERATURE,
    "battery-failure": BATTERY.TARGET_FAILURE,
    "battery-cycle-life": BATTERY.TARGET_CYCLE_LIFE,
}


def _fill(request, inputs):
    for name, value in inputs.items():
        field = request.DESCRIPTOR.fields_by_name[name]
        setattr(request, name, int(value) if field.type == field.TYPE_UINT32 else value)
    return request


class Services:
    """The typed services of one server."""

    def __init__(self, address, options=()):
        self.channel = grpc.insecure_channel(address, options=list(options))
        self.range = RANGE_GRPC.RangePredictionStub(self.channel)
        self.charging = CHARGING_GRPC.ChargingUtilizationStub(self.channel)
        self.battery = BATTERY_GRPC.BatteryHealthStub(self.channel)
        self.thermal = THERMAL_GRPC.ThermalRiskStub(self.channel)
        self.vision = VISION_GRPC.VehicleVisionStub(self.channel)
        self.registry = REGISTRY_GRPC.ModelRegistryStub(self.channel)

    def answer(self, model, inputs):
        """The answer to a row, as the outputs that the Open Inference Protocol has for it."""
        if model == "ev-range":
            found = self.range.Predict(_fill(RANGE.PredictRequest(), inputs))
            return quantiles("range", found.range_q10_km, found.range_q50_km, found.range_q90_km)
        if model == "charging-utilization":
            found = self.charging.Predict(_fill(CHARGING.PredictRequest(), inputs))
            return quantiles(
                "utilization",
                found.utilization_q10_sessions_per_day,
                found.utilization_q50_sessions_per_day,
                found.utilization_q90_sessions_per_day,
            )
        if model == "thermal-risk":
            found = self.thermal.Assess(_fill(THERMAL.AssessRequest(), inputs))
            probabilities = [entry.probability for entry in found.probabilities]
            risk = THERMAL.RiskClass.Name(found.risk_class).removeprefix("RISK_CLASS_").capitalize()
            return {"risk_probabilities": np.array(probabilities, np.float32), "risk": risk.encode()}
        return self._battery(model, inputs)

    def _battery(self, model, inputs):
        request = _fill(BATTERY.PredictRequest(targets=[_TARGETS[model]]), inputs)
        found = self.battery.Predict(request)
        if model == "battery-soh":
            soh = found.state_of_health
            return quantiles("soh", soh.soh_q10_percent, soh.soh_q50_percent, soh.soh_q90_percent)
        if model == "battery-rul":
            if not found.remaining_useful_life.HasField("estimate"):
                return quantiles("rul", np.nan, np.nan, np.nan)
            rul = found.remaining_useful_life.estimate
            return quantiles("rul", rul.rul_q10_cycles, rul.rul_q50_cycles, rul.rul_q90_cycles)
        if model == "battery-temperature":
            found = found.temperature
            return quantiles(
                "temperature",
                found.temperature_q10_celsius,
                found.temperature_q50_celsius,
                found.temperature_q90_celsius,
            )
        if model == "battery-failure":
            return {"failure": np.array([found.failure.failure_probability], np.float32)}
        life = found.cycle_life
        values = life.cycle_life_q10_cycles, life.cycle_life_q50_cycles, life.cycle_life_q90_cycles
        return quantiles("cycle_life", *values)


def quantiles(name, q10, q50, q90):
    """Three outputs of one row."""
    values = {"q10": q10, "q50": q50, "q90": q90}
    return {f"{name}_{suffix}": np.array([value], np.float32) for suffix, value in values.items()}
