"""The clicks of docs/quickstart.md: from `gateway up` to a labelled answer and to a started experiment."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.browsers import chromium, missing, watched_page
from fixtures.console_tour import label, make_key, running_tour, start_experiment

from gateway.config.loading import load

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
    pytest.mark.timeout(300),
]


def test_a_tour_from_up_to_an_experiment_needs_no_yaml(tmp_path: Path) -> None:
    with running_tour(tmp_path) as tour, chromium() as browser, watched_page(browser, tour.console) as page:
        before = (tmp_path / "gateway.yaml").read_text()
        page.page.goto(tour.login)
        page.page.wait_for_selector("nav[aria-label=Pages]")
        secret = make_key(page, "web")
        tour.send(20, secret)
        tour.until("SELECT count(*) FROM scores WHERE scorer = 'valid_json'", lambda n: n >= 20)
        label(page, 3)
        assert tour.until("SELECT count(*) FROM labels", lambda n: n == 3) == 3
        start_experiment(page)
        tour.until("SELECT count(*) FROM plans WHERE state = 'running'", lambda n: n == 1)
        while not tour.until("SELECT count(*) FROM pairs", lambda n: n is not None):
            tour.send(5, secret)  # gateways read the new experiment within a second
        page.check()
        assert (tmp_path / "gateway.yaml").read_text() == before
        assert list(load(tmp_path / "gateway.yaml").experiments) == ["larger"]
