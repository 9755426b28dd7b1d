"""The alarms on what a ramp serves."""
