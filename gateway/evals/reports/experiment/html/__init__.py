"""A report as one page that needs nothing else: inline SVG, no script, everything escaped. document.py makes it."""
