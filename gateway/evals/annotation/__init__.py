"""People's labels: sampling, blind review, agreement with scorers, corrected means."""
