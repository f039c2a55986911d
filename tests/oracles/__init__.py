"""Reference implementations: PyTorch transcriptions and published code."""
