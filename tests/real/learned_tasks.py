"""Varied tasks for a small model, each with a rule that knows whether an answer is right: the truth of its records.

task(n) is the same in every process: the rule of a stored answer is derived from the task's number alone.
"""

# ruff: noqa: SIM905 - lists of words are read as text
from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

Rule = Callable[[str], float]
"""The share of what was asked for that an answer has: 0, 1, or between."""

NAMES = "Anna Bruno Clara David Emma Felix Greta Hugo Irene Jonas Karin Luis Maria Nils Olga Paul Rosa Simon".split()
CITIES = "Lisbon Oslo Vienna Madrid Prague Dublin Athens Warsaw Rome Helsinki Berlin Paris".split()
CAPITALS = {
    "France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Norway": "Oslo", "Austria": "Vienna", "Greece": "Athens",
    "Poland": "Warsaw", "Portugal": "Lisbon", "Ireland": "Dublin", "Hungary": "Budapest", "Japan": "Tokyo",
    "Egypt": "Cairo", "Kenya": "Nairobi", "Peru": "Lima", "Cuba": "Havana", "Canada": "Ottawa", "Chile": "Santiago",
    "Turkey": "Ankara", "Australia": "Canberra", "Brazil": "Brasília", "Morocco": "Rabat", "Vietnam": "Hanoi",
}  # fmt: skip
WORDS = (
    "river table green window paper stone music bread garden silver winter bottle copper market pencil island ladder "
    "orange rabbit saddle timber velvet walnut yellow anchor basket candle dragon engine forest"
).split()
TOPICS = (
    "fruits, animals, colours, countries, tools, vegetables, rivers, sports, metals, musical instruments, kitchen "
    "items, birds, languages, professions"
).split(", ")
PRAISE = "I loved it, it was wonderful|The best meal in years|Great service and very friendly|It works perfectly"
BLAME = "It broke after one day|The worst film I have seen|Terrible food and rude staff|A complete waste of money"
ABOUT = "the ocean|bicycles|coffee|the moon|bees|trains|winter|books|bread|mountains|rain|music".split("|")
LANGUAGES = {
    "French": "le la les de des et est une un dans pour que qui il avec sur sont",
    "German": "der die das und ist ein eine in zu mit den von nicht auf sind für",
    "Spanish": "el la los de y es una un en para que por con se las son del",
}
COMMON = {"English": "the of and is a in to with for that are on it", **LANGUAGES}
CHOICES = (
    ("Which of these is a planet?", "Mars", "Paris|Bread|Piano"),
    ("Which of these is a metal?", "Iron", "Cotton|Water|Wood"),
    ("Which animal can fly?", "Eagle", "Horse|Shark|Rabbit"),
    ("Which number is even?", "8", "3|7|11"),
    ("Which of these is a fruit?", "Banana", "Hammer|Chair|Cloud"),
    ("What do bees make?", "Honey", "Milk|Steel|Paper"),
    ("Which season comes after winter?", "Spring", "Autumn|Summer|Winter"),
    ("How many legs does a spider have?", "8", "4|6|10"),
    ("Which gas do plants take in?", "Carbon dioxide", "Oxygen|Helium|Neon"),
    ("Who wrote Hamlet?", "Shakespeare", "Mozart|Newton|Picasso"),
)


@dataclass(frozen=True, slots=True)
class Task:
    """kind: its row of KINDS. difficulty: 0 is the easiest."""

    kind: str
    difficulty: int
    prompt: str
    rule: Rule
    system: str | None
    max_tokens: int
    temperature: float
    stream: bool

    def body(self, number: int) -> dict[str, object]:
        """A chat request."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        made = {"model": "chat", "messages": [*system, {"role": "user", "content": self.prompt}]}
        made |= {"max_tokens": self.max_tokens, "temperature": self.temperature, "stream": self.stream}
        return made | {"logprobs": True, "seed": number, "metadata": {"task": str(number)}}


def task(number: int) -> Task:
    draw = random.Random(f"task {number}")
    kind = sorted(KINDS)[number % len(KINDS)]
    difficulty = draw.randrange(4)
    prompt, rule = KINDS[kind](draw, difficulty)
    system = draw.choice((None, None, "You are a helpful assistant.", "Answer as briefly as you can."))
    room = draw.choice((16, 40, 40, 48))
    return Task(kind, difficulty, prompt, rule, system, room, (0.2, 1.0)[draw.randrange(2)], draw.random() < 0.5)


def plain(text: str) -> str:
    """The text for comparing: lower case, letters and digits only, one space between words."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def holds(word: str, text: str) -> bool:
    return f" {plain(word)} " in f" {plain(text)} "


def one_of(right: str, wrong: list[str]) -> Rule:
    """The answer has the right word and none of the wrong ones."""
    return lambda text: float(holds(right, text) and not any(holds(w, text) for w in wrong))


def arithmetic(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    top = (9, 20, 99, 999)[difficulty]
    a, b, sign = draw.randint(1, top), draw.randint(1, top), draw.choice("++-*")
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]

    def rule(text: str) -> float:
        numbers = re.findall(r"-?\d+", text.replace(",", ""))
        return float(bool(numbers) and int(numbers[-1]) == result)

    return f"What is {a} {sign} {b}? Answer with the number only.", rule


def copying(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    words = " ".join(draw.sample(WORDS, (2, 4, 7, 11)[difficulty]))
    example = 'For example, "Repeat: blue sky" gives "blue sky".\n' if difficulty < 3 else ""
    return f"{example}Repeat: {words}", lambda t: float(plain(words) in plain(t))


def extraction(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    people = draw.sample(NAMES, (1, 2, 4, 6)[difficulty])
    cities = draw.sample(CITIES, len(people))
    text = " ".join(f"{who} lives in {city}." for who, city in zip(people, cities, strict=True))
    which = draw.randrange(len(people))
    others = [c for c in cities if c != cities[which]]
    return f"{text}\nIn which city does {people[which]} live?", one_of(cities[which], others)


def json_keys(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    keys = draw.sample(["name", "age", "city", "email", "colour", "price"], difficulty + 1)

    def rule(text: str) -> float:
        found = re.search(r"\{.*\}", text, re.DOTALL)
        try:
            value = json.loads(found[0]) if found else None
        except ValueError:
            return 0.0
        return sum(k in value for k in keys) / len(keys) if isinstance(value, dict) else 0.0

    return f"Write a JSON object with exactly these keys: {', '.join(keys)}. Write only the JSON.", rule


def listing(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    n = (2, 3, 4, 6)[difficulty]

    def rule(text: str) -> float:
        lines = [line for line in text.splitlines() if re.match(r"\s*(?:[-*•]|\d+[.)])\s*\w", line)]
        return max(0.0, 1.0 - abs(len(lines) - n) / n)

    return f"List exactly {n} {draw.choice(TOPICS)}, one on each line, numbered.", rule


def sentiment(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    good = draw.random() < 0.5
    text = draw.choice((PRAISE if good else BLAME).split("|"))
    if difficulty >= 2:
        text = f"My friend {draw.choice(NAMES)} told me on the way to {draw.choice(CITIES)}: {text.lower()}"
    right, wrong = ("positive", "negative") if good else ("negative", "positive")
    return f'Is this review positive or negative? Answer with one word.\n"{text}."', one_of(right, [wrong])


def upper(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    words = " ".join(draw.sample(WORDS, difficulty + 1))
    example = "big house -> BIG HOUSE\nred car -> RED CAR\n" if difficulty < 3 else ""
    return f"{example}Write this in capital letters: {words}", lambda t: float(words.upper() in t)


def backwards(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    word = draw.choice(WORDS)[: 3 + difficulty]
    example = 'house is spelled "h-o-u-s-e" and car is spelled "c-a-r".\n' if difficulty < 3 else ""
    return f'{example}How is "{word}" spelled, with a dash between the letters?', lambda t: float(
        "-".join(word) in t.lower()
    )


def few_words(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    most = (20, 12, 8, 4)[difficulty]
    prompt = f"Tell me something about {draw.choice(ABOUT)} in at most {most} words."
    return prompt, lambda t: float(0 < len(t.split()) <= most)


def language(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    wanted = draw.choice(sorted(LANGUAGES))

    def rule(text: str) -> float:
        words = plain(text).split()
        count = {name: sum(w in common.split() for w in words) for name, common in COMMON.items()}
        return float(count[wanted] > 0 and count[wanted] == max(count.values()))

    ask = "Answer only in {}: " if difficulty < 2 else "(The answer must be in {}.) "
    return f"{ask.format(wanted)}what do you know about {draw.choice(ABOUT)}?", rule


def table(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    n = (2, 3, 5, 7)[difficulty]
    people = draw.sample(NAMES, n)
    ages = {who: draw.randint(18, 70) for who in people}
    who, limit = draw.choice(people), draw.randint(25, 60)
    lines = "\n".join(f"| {name} | {age} |" for name, age in ages.items())
    right, wrong = ("yes", "no") if ages[who] > limit else ("no", "yes")
    prompt = f"| name | age |\n|---|---|\n{lines}\nIs {who} older than {limit}? Answer yes or no."
    return prompt, one_of(right, [wrong])


def choice(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    question, right, wrong = draw.choice(CHOICES)
    options = [right, *draw.sample(wrong.split("|"), min(3, difficulty + 1))]
    draw.shuffle(options)
    lines = "\n".join(f"{letter}) {option}" for letter, option in zip("ABCD", options, strict=False))
    others = [option for option in options if option != right]
    return f"{question}\n{lines}\nAnswer with one of the options.", one_of(right, others)


def capital(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    country = draw.choice(sorted(CAPITALS))
    ask = ("What is the capital of {}?", "Name the capital city of {}.", "{}: which city is its capital, in one word?")
    return ask[difficulty % 3].format(country), lambda t: float(holds(CAPITALS[country], t))


def larger(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    numbers = draw.sample(range(1, 10 ** (difficulty + 1)), min(2 + difficulty, 4))
    others = [str(n) for n in numbers if n != max(numbers)]
    prompt = f"Which is the largest number: {', '.join(map(str, numbers))}? Answer with the number only."
    return prompt, one_of(str(max(numbers)), others)


def first_word(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    words = draw.sample(WORDS, 3 + 2 * difficulty)
    place, right = draw.choice((("first", words[0]), ("last", words[-1])))
    prompt = f'What is the {place} word of this text? Answer with one word.\n"{" ".join(words)}"'
    return prompt, one_of(right, [w for w in words if w != right])


def ordering(draw: random.Random, difficulty: int) -> tuple[str, Rule]:
    words = draw.sample(WORDS, 2 + difficulty)
    right = plain(" ".join(sorted(words)))
    return f"Put these words in alphabetical order: {', '.join(words)}.", lambda t: float(right in plain(t))


KINDS: dict[str, Callable[[random.Random, int], tuple[str, Rule]]] = {
    made.__name__: made
    for made in (
        arithmetic, copying, extraction, json_keys, listing, sentiment, upper, backwards, few_words, language, table,
        choice, capital, larger, first_word, ordering,
    )
}  # fmt: skip
