"""Recorded calls as rows for other programs: files, a stream of files, and data frames in a notebook."""
