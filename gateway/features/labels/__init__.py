"""People's labels: sampling, blind sheets, agreement, and the calibration of judges."""
