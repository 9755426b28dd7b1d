"""Sentences about products and services, half of them content and half not; written before any wording was tried.

The halves have equal numbers of both: `TUNING` was used to choose the wording of reads, `HELD_OUT` only to report.
"""

from __future__ import annotations

TUNING: tuple[tuple[str, bool], ...] = (
    ("The battery lasts for two full days, and I could not be happier.", True),
    ("It broke after one week and nobody answers my mails.", False),
    ("Our guide was friendly and knew every street of the old town.", True),
    ("The soup was cold and the waiter was rude.", False),
    ("Setting it up took three minutes, and everything worked at once.", True),
    ("I waited two hours on the phone only to be cut off.", False),
    ("My daughter reads in this book every evening and loves it.", True),
    ("The screen flickers, and the fan is unbearably loud.", False),
    ("The room was spotless, quiet, and had a wonderful view.", True),
    ("They charged me twice and refuse to give the money back.", False),
    ("Excellent quality for the price; I would buy it again.", True),
    ("A waste of money. Do not buy this.", False),
    ("The support team solved my problem within an hour.", True),
    ("The app crashes every time I open a photo.", False),
    ("What a delightful film, we laughed until the end.", True),
    ("The plot is dull and the actors seem bored.", False),
    ("Delivered a day early and carefully packed.", True),
    ("The parcel arrived late, and half of the plates were in pieces.", False),
    ("These shoes are the most comfortable that I have ever had.", True),
    ("The seams came apart on the first walk.", False),
    ("The teacher explains clearly and has endless patience.", True),
    ("The lecture was confusing and far too long.", False),
    ("I am impressed by how fast this laptop is.", True),
    ("The new version is slower than the old one, and I regret the update.", False),
)
HELD_OUT: tuple[tuple[str, bool], ...] = (
    ("Best coffee in town, and the staff always smile.", True),
    ("The coffee tastes burnt and the place is dirty.", False),
    ("The sound is rich and clear, a great pair of headphones.", True),
    ("The left earphone died after four days.", False),
    ("Our stay was perfect from the first minute to the last.", True),
    ("There were bugs in the bed and the shower did not work.", False),
    ("The doctor listened carefully and took my worries seriously.", True),
    ("The nurse ignored me, and I left in tears.", False),
    ("A gripping novel with beautiful language.", True),
    ("I gave up after fifty pages of boring chatter.", False),
    ("The bus was on time, clean and cheap.", True),
    ("The train was late again and terribly crowded.", False),
    ("My garden has never looked better since I use this tool.", True),
    ("The handle snapped the first time I used it.", False),
    ("The refund came the next day, with an apology. Thank you!", True),
    ("They promised a refund in May and I still have nothing.", False),
    ("The children had so much fun that they did not want to leave.", True),
    ("The rides were closed, and the food was overpriced and awful.", False),
    ("Easy to clean, light, and it looks lovely in the kitchen.", True),
    ("It leaks, it smells, and it is impossible to clean.", False),
    ("The concert was amazing; I still have goosebumps.", True),
    ("The singer was out of tune and the hall was freezing.", False),
    ("I recommend this dentist to everybody: gentle and honest.", True),
    ("He was in a hurry, hurt me, and sent a huge bill.", False),
)
