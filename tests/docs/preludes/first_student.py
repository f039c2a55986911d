"""Thirty epochs take a minute; what the page shows needs one."""

epochs = 1
