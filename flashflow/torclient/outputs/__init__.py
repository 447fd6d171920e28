"""What torclient's core does to the world: worker processes."""
