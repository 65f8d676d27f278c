"""Prints how many requests of a model were answered: python counts.py 127.0.0.1:50051 ev-range"""

import sys

import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
print(client.get_inference_statistics(sys.argv[2]).model_stats[0].inference_stats.success.count)
