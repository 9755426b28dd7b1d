"""The pages of decisions."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import numpy as np

from gateway.config.decisions import CertificateConfig, DecisionsConfig
from gateway.features.decisions.certification import Evidence, examine
from gateway.features.decisions.labelled import LabelledCalls
from gateway.features.decisions.model import CertificateFinding, Promise
from gateway.features.decisions.page import reliability_chart, summary
from gateway.features.decisions.work import certify, promise_named
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.desk import Desk, LabelRequest
from gateway.features.labels.rows import save_labels
from gateway.store.query import reading

PATH = "/console/decisions"


def words(html: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html[html.index("<main") :])))


def configure(pages: Any, **certificates: CertificateConfig) -> None:
    section = DecisionsConfig(certificates=certificates)
    pages.config.append(pages.config[-1].model_copy(update={"decisions": section}))


async def add_labelled(pages: Any, make_exchange: Any, n: int, labels: int) -> None:
    """Answers with probabilities that are true, of which a person labels some in the order of the draw."""
    random = np.random.default_rng(51)
    p = random.beta(5.0, 0.3, n).clip(0.001, 0.999)
    for at, x in enumerate(p):
        text = f"answer {int(random.random() < x)}"
        await pages.add(make_exchange(text, id=f"e{at}", unit=f"u{at}"), results=[("valid_json", float(x))])
    given = []
    with reading(pages.store_url) as connection:
        desk = Desk(connection, LabelRequest("valid_json", "ada"))
        for _ in range(labels):
            drawn = desk.next(connection)
            assert drawn is not None
            given.append(desk.label(drawn, LabelVerdict(float(drawn.blind.answers[0].split()[1]))))
    await pages.store.run(lambda c: save_labels(c, given))


async def test_without_a_promise_the_page_explains_one(pages: Any) -> None:
    page = words(await pages.get(await pages.login("viewer"), PATH))
    assert "Nothing is decided by a probability alone" in page
    assert "gateway decisions plan" in page


async def test_a_promise_is_shown_with_its_labels(pages: Any, make_exchange: Any) -> None:
    configure(pages, auto=CertificateConfig(scorer="valid_json", wrong=0.2), other=CertificateConfig(scorer="absent"))
    client = await pages.login("viewer")
    await add_labelled(pages, make_exchange, 260, 240)
    page = words(await pages.get(client, PATH))
    assert "None of 1 promise is certified by people's labels" in page
    assert "Without a score yet: other" in page
    html = await pages.get(client, f"{PATH}/of/auto")
    page = words(html)
    for part in ("at most 20.0% wrong from the threshold on", "240 labels", "one look", "any look", "Brier"):
        assert part in page, part
    assert "how often people's labels are wrong is unknown" in page
    assert html.count('class="zone"') == 0, "nothing is certified"
    with_store = promise_named(pages.config[-1], "auto")
    await pages.store.run(lambda c: certify(c, with_store, pages.admin.clock()))
    html = await pages.get(client, f"{PATH}/of/auto")
    assert "certified" in re.findall(r'class="pill good"><bdi>([^<]+)', html)
    assert html.count('class="zone"') == 2, "in the wide and the narrow drawing"
    assert "1 of 1 promise is certified" in words(await pages.get(client, PATH))


async def test_a_threshold_may_be_moved(pages: Any, make_exchange: Any) -> None:
    configure(pages, auto=CertificateConfig(scorer="valid_json", wrong=0.2))
    client = await pages.login("viewer")
    await add_labelled(pages, make_exchange, 60, 50)
    page = words(await pages.get(client, f"{PATH}/of/auto?t=0.25"))
    assert "From 0.25 on:" in page
    assert "50 more labels over all traffic choose a zone" in page
    refused = await client.get(f"{PATH}/of/auto?t=much")
    assert refused.status_code == 400
    assert "expected a probability from 0 to 1" in refused.text


async def test_a_page_of_an_unknown_name_is_not_there(pages: Any) -> None:
    configure(pages, auto=CertificateConfig(scorer="valid_json"))
    answer = await (await pages.login("viewer")).get(f"{PATH}/of/autos")
    assert answer.status_code == 404
    assert "did you mean" in answer.text


def test_few_labels_have_no_drawing() -> None:
    assert summary([]) == "Nothing is decided by a probability alone"
    assert reliability_chart(few_labels()) is None


def few_labels() -> CertificateFinding:
    empty = np.array([])
    calls = LabelledCalls(empty, empty, empty, empty, (), ())
    promise = Promise("auto", "s", 0.1, 0.9, "threshold")
    return examine(Evidence(promise, "q", calls, (empty, empty), (), None, 1.0))
