"""What torclient's core hears from the world: control connections."""
