"""The sums of hours, the usual range of hits and scores, and their drawing. Pure."""
