"""Takes secrets and personal data out of exchanges before they leave the process, off the requests' time."""
