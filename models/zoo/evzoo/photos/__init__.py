"""Trains, measures and describes the models of photos, beside the tabular ones and on the same terms.

It is a package of its own because it needs PyTorch; what it shares with the other (data folders, digests, TOML, scores)
needs neither PyTorch nor XGBoost.
"""

import os

# ONNX Runtime's official builds report to their maker unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
