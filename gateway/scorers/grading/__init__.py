"""OpenAI's grader JSON: what it may say, its variables, its formulas, its similarities. grader.py is the scorer."""
