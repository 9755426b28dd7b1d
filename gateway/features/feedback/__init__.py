"""Feedback: what users say of an answer, and what their next turn shows."""
