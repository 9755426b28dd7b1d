"""The probe of readings: an alias's own questions, asked in two orders by every reading."""
