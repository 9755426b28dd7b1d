"""A verdict on two or more arms, from sums and pairs: sequences, gates, segments, prices and the decision. Pure."""
