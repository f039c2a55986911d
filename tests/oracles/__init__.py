"""What is compared with: PyTorch transcriptions and published code."""
