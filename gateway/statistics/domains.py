"""Checks of arguments' domains, so that every ValueError of this package has the same form."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Number = TypeVar("Number", int, float)


def inside(name: str, value: float, low: float = 0.0, high: float = 1.0) -> float:
    """Returns value if low < value < high; raises ValueError with the value otherwise."""
    if not low < value < high:
        raise ValueError(f"{name}: {value!r} is outside ({low:g}, {high:g})")
    return value


def between(name: str, value: float, low: float = 0.0, high: float = 1.0) -> float:
    """Returns value if low <= value <= high; raises ValueError with the value otherwise. NaN is in no domain."""
    if not low <= value <= high:
        raise ValueError(f"{name}: {value!r} is outside [{low:g}, {high:g}]")
    return value


def finite(name: str, value: float) -> float:
    """Returns value if it is a finite number; raises ValueError otherwise."""
    if not math.isfinite(value):
        raise ValueError(f"{name}: {value!r} is not a finite number")
    return value


def positive(name: str, value: float) -> float:
    """Returns value if 0 < value < infinity; raises ValueError otherwise."""
    return inside(name, value, 0.0, math.inf)


def not_negative(name: str, value: float) -> float:
    """Returns value if 0 <= value < infinity; raises ValueError otherwise."""
    return value if value == 0 else positive(name, value)


def at_least(name: str, value: Number, least: int) -> Number:
    """Returns value if value >= least; raises ValueError otherwise."""
    if not value >= least:
        raise ValueError(f"{name}: {value!r}, expected {least} or more")
    return value


def one_of(name: str, value: str, known: Iterable[str]) -> str:
    """Returns value if it is one of known; raises ValueError that lists them otherwise."""
    names = sorted(known)
    if value not in names:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(names)}")
    return value


def vector(name: str, values: ArrayLike, least: int = 1) -> Floats:
    """Returns values as a float array of shape (n,), n >= least, all finite; raises ValueError with the first wrong
    value.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name}: shape {array.shape}, expected (n,)")
    if array.size < least:
        raise ValueError(f"{name}: {array.size} values, expected {least} or more")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise ValueError(f"{name}[{wrong[0]}]: {array[wrong[0]]} is not a finite number")
    return array


def counts(name: str, table: ArrayLike) -> Floats:
    """Returns table as a float array of two dimensions, all finite and >= 0, not all zero; raises ValueError
    otherwise.
    """
    array = np.asarray(table, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name}: shape {array.shape}, expected two dimensions")
    wrong = array[~(np.isfinite(array) & (array >= 0))]
    if wrong.size:
        raise ValueError(f"{name}: {wrong.flat[0]} is not a count")
    if array.sum() == 0:
        raise ValueError(f"{name}: all counts are 0")
    return array


def same_length(names: str, *arrays: Floats | Sequence[object]) -> None:
    """Raises ValueError unless all arrays have the same length."""
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"{names}: lengths {lengths} differ")
