"""The report of an experiment, read from the store. `gateway/verdict/report/` shows it."""
