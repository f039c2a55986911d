"""A network held constant during an attack.

- `fingerprint.py`: what a model computes with besides its weights;
- `folding.py`: a faster graph with the same logits;
- `network.py`: which of the two computes, and the check of one against the
  other;
- `classifier.py`: a network compiled, its weights arguments.
"""
