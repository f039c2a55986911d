"""Networks that are held constant during an attack.

- `fingerprint.py`: detects changes of a model other than its weights;
- `folding.py`: a faster graph with the same logits;
- `network.py`: compares the graph with the model, and chooses between them;
- `classifier.py`: compiled networks that take their weights as arguments.
"""
