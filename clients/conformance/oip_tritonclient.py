"""Triton's own Python client against evserve: every call, every bundled model, both forms of contents.

    python oip_tritonclient.py 127.0.0.1:50051
"""

import queue
import sys
import unittest

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

import bundled
import tensors
import typed

ADDRESS = "127.0.0.1:50051"


class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = triton.InferenceServerClient(ADDRESS)
        cls.stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(ADDRESS))
        cls.services = typed.Services(ADDRESS)
        cls.models = [bundled.Model(name) for name in bundled.MODELS]

    @classmethod
    def tearDownClass(cls):
        cls.client.close()

    def counts(self, name):
        found = self.client.get_inference_statistics(name).model_stats[0]
        stats = found.inference_stats
        return np.array([stats.success.count, stats.fail.count, found.inference_count, found.execution_count])

    def assert_bits(self, found, expected):
        np.testing.assert_array_equal(tensors.bits(found), tensors.bits(expected))

    def test_server(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        metadata = self.client.get_server_metadata()
        self.assertEqual(metadata.name, "evserve")
        self.assertIn("statistics", metadata.extensions)
        index = {model.name: model.state for model in self.client.get_model_repository_index().models}
        self.assertEqual({name: index.get(name) for name in bundled.MODELS}, dict.fromkeys(bundled.MODELS, "READY"))

    def test_metadata_and_config(self):
        for model in self.models:
            with self.subTest(model.name):
                self.assertTrue(self.client.is_model_ready(model.name))
                metadata = self.client.get_model_metadata(model.name)
                config = self.client.get_model_config(model.name).config
                declared = model.manifest["inputs"]
                self.assertEqual([entry.name for entry in metadata.inputs], [entry["name"] for entry in declared])
                self.assertEqual([entry.datatype for entry in metadata.inputs], [entry["dtype"] for entry in declared])
                optional = [not entry.get("required", False) for entry in declared]
                self.assertEqual([entry.optional for entry in config.input], optional)
                self.assertEqual(config.max_batch_size, model.manifest["limits"]["max_batch_rows"])
                self.assertEqual(config.platform, f"evserve_{model.manifest['model']['backend']}")
                self.assertEqual([entry.name for entry in metadata.outputs], [entry.name for entry in config.output])
                self.assertTrue(config.parameters["digest"].string_value.startswith("sha256:"))

    def test_answers_are_those_of_the_typed_services_and_of_xgboost(self):
        for model in self.models:
            with self.subTest(model.name):
                for case in model.cases:
                    found = self.client.infer(model.name, tensors.raw_inputs(model, [case.inputs]), request_id="7")
                    self.assertEqual(found.get_response().id, "7")
                    raw = tensors.outputs(found.get_response())
                    by_fields = self.stub.ModelInfer(tensors.typed_request(model, [case.inputs]))
                    self.assertFalse(by_fields.raw_output_contents)
                    for name, values in tensors.outputs(by_fields).items():
                        self.assert_bits(raw[name], values)
                    for name, values in self.services.answer(model.name, case.inputs).items():
                        if name == "risk":
                            self.assertEqual(raw[name].reshape(-1)[0], values)
                        elif case.known:
                            self.assert_bits(raw[name].reshape(-1), values)
                        else:
                            self.assertTrue(np.isnan(raw[name]).all())
                    if case.known:
                        self.assert_bits(raw["raw"].reshape(-1), model.xgboost_prediction(case))
                    else:
                        self.assertTrue(raw["out_of_distribution"].all())

    def test_a_batch_is_its_rows(self):
        for model in self.models:
            with self.subTest(model.name):
                names = list(model.cases[0].inputs)
                rows = [case.inputs for case in model.cases if list(case.inputs) == names] * 100
                batch = self.client.infer(model.name, tensors.raw_inputs(model, rows)).get_response()
                whole = tensors.outputs(batch)
                for index in range(len(rows) // 100):
                    alone = tensors.outputs(self.stub.ModelInfer(tensors.typed_request(model, rows[index : index + 1])))
                    for name, values in alone.items():
                        for row in whole[name][index :: len(rows) // 100]:
                            self.assert_bits(row, values[0])

    def test_statistics_count_exactly(self):
        for model in self.models:
            with self.subTest(model.name):
                row = model.cases[0].inputs
                before = self.counts(model.name)
                for _ in range(5):
                    self.client.infer(model.name, tensors.raw_inputs(model, [row]))
                for _ in range(2):
                    self.client.infer(model.name, tensors.raw_inputs(model, [row, row, row]))
                with self.assertRaises(InferenceServerException):
                    self.client.infer(model.name, tensors.raw_inputs(model, [row]) * 2)
                self.assertEqual((self.counts(model.name) - before)[:3].tolist(), [7, 1, 11])

    def test_wanted_outputs(self):
        for model in self.models:
            with self.subTest(model.name):
                wanted = [triton.InferRequestedOutput("raw")]
                inputs = tensors.raw_inputs(model, [model.cases[0].inputs])
                found = self.client.infer(model.name, inputs, outputs=wanted)
                self.assertEqual([output.name for output in found.get_response().outputs], ["raw"])

    def test_refusals_say_what_to_do(self):
        model = next(model for model in self.models if model.name == "ev-range")
        row = {"make": "Tesla", "model": "Model 3", "battery_capacity_kwh": 60_000.0}
        with self.assertRaisesRegex(InferenceServerException, r"battery_capacity_kwh\[0\]` is 60000, expected 1 to"):
            self.client.infer(model.name, tensors.raw_inputs(model, [row]))
        with self.assertRaisesRegex(InferenceServerException, "no model `resnet50` is registered; registered: battery"):
            self.client.infer("resnet50", tensors.raw_inputs(model, [row]))
        tensor = triton.InferInput("battery_capacity_kwh", [1, 1], "FP32")
        tensor.set_shared_memory("region", 4)
        with self.assertRaisesRegex(InferenceServerException, "shared memory, which is not supported"):
            self.client.infer(model.name, [tensor])

    def test_stream(self):
        for model in self.models:
            with self.subTest(model.name):
                answers = queue.Queue()
                self.client.start_stream(lambda result, error, answers=answers: answers.put((result, error)))
                good = tensors.raw_inputs(model, [model.cases[0].inputs])
                for request_id, inputs in [("1", good), ("2", good + good), ("3", good)]:
                    self.client.async_stream_infer(model.name, inputs, request_id=request_id)
                found = [answers.get(timeout=30) for _ in range(3)]
                self.client.stop_stream()
                self.assertIn("is there twice", str(found[1][1]))
                expected = tensors.outputs(self.client.infer(model.name, good).get_response())
                for index, request_id in [(0, "1"), (2, "3")]:
                    response = found[index][0].get_response()
                    self.assertEqual(response.id, request_id)
                    for name, values in tensors.outputs(response).items():
                        self.assert_bits(values, expected[name])


class Typed(unittest.TestCase):
    """Requests as a fleet, a charging operator and a battery monitor make them."""

    @classmethod
    def setUpClass(cls):
        cls.services = typed.Services(ADDRESS)

    def test_a_150_kw_dc_station_with_4_connectors_in_urban_berlin(self):
        request = typed.CHARGING.PredictRequest(
            region="Berlin", city_type="urban", charger_type="DC", station_power_kw=150.0, connector_count=4
        )
        found = self.services.charging.Predict(request)
        self.assertLessEqual(0.0, found.utilization_q10_sessions_per_day)
        self.assertLessEqual(found.utilization_q10_sessions_per_day, found.utilization_q50_sessions_per_day)
        self.assertLessEqual(found.utilization_q50_sessions_per_day, found.utilization_q90_sessions_per_day)
        flagged = [field.field for field in found.info.out_of_distribution]
        self.assertIn("region", flagged, "the model was not trained on Berlin, and says so")

    def test_a_tesla_model_3_of_2021(self):
        found = self.services.range.Predict(typed.RANGE.PredictRequest(make="Tesla", model="Model 3", model_year=2021))
        self.assertTrue(200.0 < found.range_q10_km <= found.range_q50_km <= found.range_q90_km < 900.0)
        self.assertEqual(found.info.model.name, "ev-range")

    def test_a_pack_with_four_sensors(self):
        request = typed.THERMAL.AssessRequest(
            cell_temperature_max_celsius=31.0, pack_voltage_v=380.0, pack_current_a=-40.0, humidity_percent=45.0
        )
        found = self.services.thermal.Assess(request)
        self.assertAlmostEqual(sum(entry.probability for entry in found.probabilities), 1.0, places=5)
        self.assertLess(found.info.feature_coverage, 1.0)
        self.assertGreater(found.info.feature_coverage, 0.0)
        self.assertTrue(found.action.text)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ADDRESS = sys.argv.pop(1)
    unittest.main(verbosity=2)
