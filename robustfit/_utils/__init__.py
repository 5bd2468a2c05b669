"""What every folder may use: tensors and seeds, checks, checkpoints, picture style."""
