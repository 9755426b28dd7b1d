"""`gateway up`: discovers servers, writes a starter config, and runs every program on one machine."""
