"""The price of a verdict, in pairs, requests and days."""
