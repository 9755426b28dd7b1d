"""A multi grader's `calculate_output`: arithmetic over the names of its graders, and nothing else. Pure."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

MAX_CHARACTERS, MAX_NODES = 2000, 300
_BINARY: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}


class Formula:
    """A parsed formula of numbers, names, + - * / ^ ( ) and min, max, abs, floor, ceil, exp, sqrt, log. ^ is a power.

    Raises ValueError for anything else, and for an unknown name.
    """

    def __init__(self, text: str, known: Mapping[str, Any]) -> None:
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"longer than {MAX_CHARACTERS} characters")
        try:
            self._tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
        except (SyntaxError, RecursionError, MemoryError, ValueError):
            raise ValueError(f"{text!r} is not a formula") from None
        if sum(1 for _ in ast.walk(self._tree)) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} parts")
        self._check(self._tree, known)

    def value(self, of: Mapping[str, float]) -> float:
        """The value for these variables. Raises ValueError for a division by 0 and the like."""
        try:
            return float(self._value(self._tree, of))
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ValueError(f"calculate_output has no value here: {error}") from None

    def _check(self, node: ast.expr, known: Mapping[str, Any]) -> None:
        match node:
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                return
            case ast.Name(id=name) if name in known:
                return
            case ast.Name(id=name):
                raise ValueError(f'no grader "{name}"; known: {", ".join(known)}')
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self._check(left, known)
                self._check(right, known)
            case ast.UnaryOp(op=unary, operand=operand) if type(unary) in _UNARY:
                self._check(operand, known)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
                for each in args:
                    self._check(each, known)
            case _:
                raise ValueError(f"{ast.unparse(node)!r} is not allowed in a formula")

    def _value(self, node: ast.expr, of: Mapping[str, float]) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return of[name]
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self._value(left, of), self._value(right, of))
            case ast.UnaryOp(op=unary, operand=operand):
                return _UNARY[type(unary)](self._value(operand, of))
            case ast.Call(func=ast.Name(id=name), args=args):
                return _FUNCTIONS[name](*(self._value(each, of) for each in args))
        raise ValueError("a checked formula has no such node")
