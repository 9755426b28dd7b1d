"""Sends a call upstream and relays the reply: attempts, deadlines, failures, continuation."""
