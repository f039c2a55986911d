"""Studies that compare all methods on one small student."""
