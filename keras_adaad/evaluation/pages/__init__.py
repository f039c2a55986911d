"""Reports and comparisons as HTML. Jinja2 is optional."""
