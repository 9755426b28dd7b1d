"""Chats as a gateway records them: English prose, lists, JSON, code and refusals. The same for the same seed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator

from gateway.core.exchange import Exchange, Target, Usage, new_id

SIZE = 1024
"""Characters of an answer in prose, about."""
_TARGETS = (Target("hosted", "large"), Target("local", "small"))
_SENTENCES = """The simplest way to do this is to write the steps down before you begin.
Most of the cost comes from the second stage, which runs once for every customer.
You can check the result by comparing it with last year's figures.
In 2019 the town had 48,200 inhabitants, about 3% more than ten years earlier.
If the pump makes a grinding noise, switch it off and call the maintenance team.
It depends on how often the data change, and on who needs to read them.
A well-known example is the bridge at Millau; its tallest pillar is 343 metres high.
That said, there are two exceptions that are worth knowing about.
Water boils at a lower temperature in the mountains because the air pressure is lower there.
Perhaps the most important point is that both parties agree on the date in writing.
I would start with a small group of users, and ask them what they expected to happen.
The author never explains why the letter was sent, and that is what makes the ending so effective.
Mix the flour with the butter until it looks like coarse sand, then add the egg and a pinch of salt.
The invoice was paid on 14 March, but the reminder had already been sent the day before.
For longer trips, bring a second battery: the cold can halve its capacity.
None of these methods is perfect, so it helps to use more than one of them.
Your contract probably allows either side to end it with three months' notice.
As a result, the average waiting time fell from 12.5 to 9.8 minutes.
She studied chemistry in Leeds and moved to Lisbon, where she opened a small laboratory.
Remember to save your work before you install the update.
The difference between the two words is small: the first describes a habit, the second a single event.
Plants need light, water and nutrients; of these, light is the hardest to provide indoors.
This error usually means that the file is still open in another program.
"It is not the answer that matters," he said, "but the question."
Please let me know if you would like more detail about any of these points.
You should also ask your doctor whether the two medicines may be taken together.""".splitlines()
_QUESTIONS = """How do I make sure that the report is finished on time?
Could you explain the difference between these two methods, and say which one you would choose for a small company?
What should I check first when the machine stops? It worked fine yesterday.
Write a short introduction for our newsletter about the new office. Keep it friendly.
Summarise the text below in a few sentences. {text}
My colleague says that this cannot be true: {text} Is he right?
Return the customer's name, city and orders as JSON.
Write a Python function that reads a file and counts the words in it.""".splitlines()
_REFUSALS = """I'm sorry, but I can't help with that. If you are in danger, please call your local emergency number.
I cannot share personal information about private individuals. Is there anything else that I can do for you?
Unfortunately, I am unable to open links. You could paste the relevant passage here instead.""".splitlines()
_CODE = '''Here is a function that does it:

```python
def count_{name}(path: str, limit: int = {n}) -> dict[str, int]:
    """Count the {name} of a file."""
    counts: dict[str, int] = {{}}
    with open(path, encoding="utf-8") as file:
        for line in file:
            for word in line.split():
                key = word.strip(".,;:!?").lower()
                if len(key) > {n} and key not in STOP_WORDS:
                    counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:limit])


if __name__ == "__main__":
    print(count_{name}("{name}.txt"))
```

'''


def _prose(chance: random.Random) -> str:
    found = ""
    while len(found) < SIZE - 60:
        found += chance.choice(_SENTENCES) + chance.choice((" ", " ", " ", "\n\n"))
    return found.rstrip()


def _list(chance: random.Random) -> str:
    items = [f"{at}. **Step {at}.** {line}" for at, line in enumerate(chance.sample(_SENTENCES, 9), 1)]
    return "\n".join(["Here is what I would do:", "", *items, "", chance.choice(_SENTENCES)])


def _json(chance: random.Random) -> str:
    orders = [{"id": chance.randrange(10**6), "total": chance.randrange(10**4) / 100, "currency": "EUR",
               "shipped": chance.random() < 0.5, "note": chance.choice(_SENTENCES)} for _ in range(7)]  # fmt: skip
    return json.dumps(
        {"customer": {"name": "A. Rivera", "city": "Porto"}, "orders": orders}, indent=chance.choice((None, 1))
    )


def _code(chance: random.Random) -> str:
    name = chance.choice(("words", "names", "lines", "errors"))
    return _CODE.format(name=name, n=chance.randrange(2, 9)) + " ".join(chance.sample(_SENTENCES, 4))


def _refusal(chance: random.Random) -> str:
    return chance.choice(_REFUSALS)


_KINDS: tuple[tuple[Callable[[random.Random], str], int], ...] = (
    (_prose, 60), (_list, 12), (_json, 10), (_code, 10), (_refusal, 8),
)  # fmt: skip


def chats(n: int, seed: int = 0) -> Iterator[Exchange]:
    """Served exchanges of one alias with two targets, in order of arrival."""
    chance = random.Random(seed)
    began = time.time()
    for at in range(n):
        [make] = chance.choices([kind for kind, _ in _KINDS], [share for _, share in _KINDS])
        yield _chat(make(chance), at, began + at, chance)


def _chat(text: str, at: int, received: float, chance: random.Random) -> Exchange:
    id, target = new_id(), chance.choice(_TARGETS)
    question = chance.choice(_QUESTIONS).format(text=" ".join(chance.choices(_SENTENCES, k=chance.randrange(3, 9))))
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": question}]
    request = {
        "model": target.model,
        "messages": messages,
        "temperature": chance.choice((0, 0.7, 1)),
        "max_tokens": 512,
    }
    given, made = 12 + len(question) // 4, len(text) // 4
    usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    answer = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    response = {"id": id, "object": "chat.completion", "model": target.model, "choices": [answer], "usage": usage}
    return Exchange(
        id=id, received=received, caller="bench", api="chat", alias="chat", target=target, stream=False,
        request=json.dumps(request).encode(), response=json.dumps(response).encode(), status=200, outcome="ok",
        total_s=0.3 + made / 80, unit=id, u=chance.random() / 10, pi=0.1, stratum="default", incarnation="bench",
        seq=at + 1, usage=Usage(given, made), first_token_s=chance.uniform(0.1, 0.4),
    )  # fmt: skip
