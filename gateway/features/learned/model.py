"""A trained model as the store holds it: JSON, checked when it is read, with its SHA-256 as version. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.features.learned.inclusion import TINY
from gateway.features.learned.trees.ensembles import Forest, InvalidModel, TreeEnsemble
from gateway.features.learned.trees.features import feature_set
from gateway.store.predictions import StoredModel

Floats = NDArray[np.float64]
FORMAT = 1


@dataclass(frozen=True)
class PredictorModel:
    """A pair of ensembles over the same features."""

    target: str
    names: tuple[str, ...]
    """The names of the features, in order."""
    value: TreeEnsemble
    """Predicts g, the expected value in [0, 1]."""
    residual: TreeEnsemble
    """Predicts r̂, the expected squared error of g, out of sample."""
    scale: float
    """The c of inclusion.py that gives the share it was trained for."""
    _forest: Forest = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_forest", Forest([self.value, self.residual]))

    @property
    def feature_set(self) -> str:
        return feature_set(self.names)

    def predict(self, x: NDArray[Any]) -> tuple[Floats, Floats]:
        """Predicts g in [0, 1] and r̂ above 0, each of shape (n,). x: shape (n, number of features)."""
        value, residual = self._forest.predict(x)
        return np.clip(value, 0.0, 1.0), np.clip(residual, TINY, 1.0)

    def to_json(self) -> str:
        """JSON of the model, always the same text for the same model."""
        head = {"format": FORMAT, "target": self.target, "features": self.names, "scale": self.scale}
        raw = head | {"value": self.value.to_json(), "residual": self.residual.to_json()}
        return orjson.dumps(raw, option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def from_json(cls, text: str) -> PredictorModel:
        """Raises InvalidModel for anything that to_json would not have written."""
        try:
            raw = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidModel(f"not JSON: {error}") from None
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise InvalidModel(f"expected a model of format {FORMAT}")
        names, scale = raw.get("features"), raw.get("scale")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidModel("features: expected a list of names")
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < 1e9:
            raise InvalidModel(f"scale: expected a number from 0, got {scale!r}")
        value, residual = TreeEnsemble.from_json(raw.get("value")), TreeEnsemble.from_json(raw.get("residual"))
        if {value.width, residual.width} != {len(names)}:
            raise InvalidModel(f"its trees are not over its {len(names)} features")
        return cls(str(raw.get("target")), tuple(names), value, residual, float(scale))


def version_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def read_model(stored: StoredModel) -> PredictorModel:
    """Raises InvalidModel also for a text that is not the one that its version was computed from."""
    if version_of(stored.model) != stored.version:
        raise InvalidModel(f"model {stored.version[:12]} was changed after it was stored")
    return PredictorModel.from_json(stored.model)
