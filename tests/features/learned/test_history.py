"""The console's data on a predictor."""

from __future__ import annotations

from gateway.features.learned.rows import JudgedShare, judged_share, trained_models
from gateway.store.predictions import StoredModel, predictions_of, save_model
from gateway.store.tables import predictions


def test_models_come_the_newest_first(store):
    for created, target in ((1.0, "judge"), (3.0, "judge"), (2.0, "other")):
        model = StoredModel(f"v{created}", target, created, 0.0, created, 9, "{}", {"mae": created}, ())
        store.run(lambda c, model=model: save_model(c, model))
    found = store.run(lambda c: trained_models(c, "judge", 5))
    assert [(m.version, m.card["mae"]) for m in found] == [("v3.0", 3.0), ("v1.0", 1.0)]
    assert len(store.run(lambda c: trained_models(c, "judge", 1))) == 1


def test_the_share_that_was_judged(store):
    """Exchanges of experiments and of another scorer do not count."""
    for at, (scorer, pi, judged) in enumerate([("judge", 0.5, True), ("judge", 0.1, False), ("judge", 0.0, True),
                                               ("other", 1.0, True)]):  # fmt: skip
        row = {
            "exchange_id": f"e{at}", "scorer": scorer, "version": "", "predicted": None, "residual": None, "pi": pi,
            "judged": judged, "received": 10.0 + at, "alias": "chat", "model": "m", "stratum": "s", "feature_set": "",
            "features": b"",
        }  # fmt: skip
        store.run(lambda c, row=row: c.execute(predictions.insert().values(row)))
    assert store.run(lambda c: judged_share(c, "judge", 0.0)) == JudgedShare(2, 1, 0.3, 0.1)
    assert store.run(lambda c: judged_share(c, "judge", 99.0)) == JudgedShare(0, 0, None, None)
    [found] = store.run(lambda c: predictions_of(c, ["e0"]))["e0"]
    assert (found["scorer"], found["pi"], bool(found["judged"])) == ("judge", 0.5, True)


def test_a_failed_judge_has_not_judged(store, exchange, stated_scorer):
    store.scorers = {"judge": stated_scorer(name="judge")}
    sent = [exchange(text) for text in ("1", "error", "timeout")]
    store.write(*sent)
    for e in sent:
        row = {
            "exchange_id": e.id, "scorer": "judge", "version": "", "predicted": None, "residual": None, "pi": 0.5,
            "judged": True, "received": 10.0, "alias": "chat", "model": "m", "stratum": "s", "feature_set": "",
            "features": b"",
        }  # fmt: skip
        store.run(lambda c, row=row: c.execute(predictions.insert().values(row)))
    found = store.run(lambda c: judged_share(c, "judge", 0.0))
    assert (found.exchanges, found.judged, found.failed) == (3, 3, 2)
