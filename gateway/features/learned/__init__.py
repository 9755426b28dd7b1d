"""The predictor of a judge's scores: training, use, drift, and means that it guides."""
