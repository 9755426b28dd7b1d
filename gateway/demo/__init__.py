"""`gateway demo`: two planted models, traffic, and an experiment that reaches its verdict while one watches."""
