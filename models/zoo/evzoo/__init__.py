"""Trains, measures and describes the models evserve brings along.

Every model is a folder beside this package with a `train.py` that names its data, inputs and recipe.
This package does the rest: group folds, cross-fitted intervals and calibration, a reference implementation of the
manifest's pipeline, the files a model version consists of, and the evaluation against baselines.
"""
