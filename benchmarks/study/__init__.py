"""The studies: what each method makes of one small student."""
