"""Estimators that rewrite a training set so that nets trained on it are robust."""
