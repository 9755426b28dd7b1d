"""Regression trees over cheap numbers about an exchange: the numbers, the training and the prediction."""
