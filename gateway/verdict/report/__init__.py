"""A report on a verdict: text, JSON and HTML made of the findings of `gateway/reports/model.py`."""
