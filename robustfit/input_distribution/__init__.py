"""Look at the data: diagnostics, studies of robustness against them, pictures."""
