"""Makes the forests that benches/forest.rs runs, and rows for them: deterministic, 3 MB each, not committed.

500 trees of depth 6 over 20 columns with 5 % of the values missing. XGBoost's default of 256 bins gives columns of
up to 256 thresholds, which 8-bit ranks cannot tell apart; 250 bins give a model for the 8-bit kernel.
"""

import pathlib

import numpy as np
import xgboost as xgb

HERE = pathlib.Path(__file__).resolve().parent
COLUMNS = 20


def data(count, seed):
    random = np.random.RandomState(seed)
    x = random.normal(size=(count, COLUMNS)).astype(np.float32)
    signal = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.5 * x[:, 3] * (x[:, 4] > 0) + 0.2 * x[:, 5:].sum(axis=1)
    y = (signal + 0.5 * random.normal(size=count) > 0).astype(np.float32)
    x[random.uniform(size=x.shape) < 0.05] = np.nan
    return x, y


def main():
    x, y = data(20_000, 1)
    for bins in (250, 256):
        parameters = dict(
            objective="binary:logistic", max_depth=6, eta=0.05, tree_method="hist", max_bin=bins, seed=1, nthread=1
        )
        booster = xgb.train(parameters, xgb.DMatrix(x, y), 500)
        booster.save_model(str(HERE / f"forest-{bins}.ubj"))
    rows, _ = data(4_096, 2)
    rows.astype("<f4").tofile(HERE / "rows.f32")


if __name__ == "__main__":
    main()
