"""Networks that are held constant during an attack; see `network.py`."""
