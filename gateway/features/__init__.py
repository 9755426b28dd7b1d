"""What the evaluation offers, one folder for each subject."""
