"""Attack a fitted estimator and count what survives."""
