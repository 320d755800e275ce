"""Training of the networks: synthetic images, losses, loops, export, evaluation. Needs PyTorch."""
