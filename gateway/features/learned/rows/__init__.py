"""The SQL of the predictor."""
