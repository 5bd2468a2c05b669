"""Classifiers that are robust by their training, or by a kernel."""
