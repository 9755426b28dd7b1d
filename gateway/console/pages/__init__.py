"""The pages of the console: HTML made on the server, which works without JavaScript. frame.py is what they share."""
