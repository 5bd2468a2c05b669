"""Training sets of robust, non-robust and relabelled features."""
