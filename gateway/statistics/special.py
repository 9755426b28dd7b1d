"""Special functions, a root finder and a search, on plain numbers. No statistical method lives here."""

import math
from collections.abc import Callable
from statistics import NormalDist

from gateway.statistics.domains import inside, not_negative, positive

TINY = 1e-300
EPSILON = 1e-16
_ROOT_WIDTH = 1e-13  # of a bracket, in units of the root: the functions whose roots are sought err by as much


def normal_quantile(p: float) -> float:
    """x with P(Z <= x) = p, Z standard normal. p: in (0, 1); else ValueError."""
    return NormalDist().inv_cdf(inside("p", p))


def two_sided_z(alpha: float) -> float:
    """z with P(|Z| > z) = alpha, Z standard normal. alpha: in (0, 1); else ValueError."""
    return -normal_quantile(inside("alpha", alpha) / 2.0)


def gamma_p(a: float, x: float) -> float:
    """Regularised lower incomplete gamma function P(a, x). Its error is about 1e-13, and about 1e-9 at a = 1e6.

    a: > 0. x: >= 0. Raises ValueError outside these domains.
    Source: DLMF 8.11.4 (series, x < a + 1) and 8.9.2 (continued fraction of Q).
    """
    positive("a", a)
    not_negative("x", x)
    if x == 0.0:
        return 0.0
    return _gamma_series(a, x) if x < a + 1.0 else 1.0 - _gamma_fraction(a, x)


def _gamma_scale(a: float, x: float) -> float:
    return math.exp(a * math.log(x) - x - math.lgamma(a))


def _gamma_series(a: float, x: float) -> float:
    term = total = 1.0 / a
    for k in range(1, _steps(a)):
        term *= x / (a + k)
        total += term
        if term < total * EPSILON:
            break
    return min(total * _gamma_scale(a, x), 1.0)


def _gamma_fraction(a: float, x: float) -> float:
    """Q(a, x) by the modified Lentz method; x >= a + 1, so the denominators stay positive."""
    b = x + 1.0 - a
    c = 1.0 / TINY
    d = h = 1.0 / b
    for k in range(1, _steps(a)):
        b += 2.0
        numerator = -k * (k - a)
        d = numerator * d + b
        d = 1.0 / (d if abs(d) > TINY else TINY)
        c = b + numerator / c
        c = c if abs(c) > TINY else TINY
        h *= d * c
        if abs(d * c - 1.0) < 4.0 * EPSILON:
            break
    return h * _gamma_scale(a, x)


def _steps(a: float) -> int:
    # Near the turning point x = a both expansions need a few times sqrt(a) terms.
    return 500 + int(20.0 * math.sqrt(a))


def log_beta(a: float, b: float) -> float:
    """ln B(a, b). a, b: > 0; else ValueError."""
    return math.lgamma(positive("a", a)) + math.lgamma(positive("b", b)) - math.lgamma(a + b)


def beta_cdf(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b). a, b: > 0; else ValueError. x is clipped to [0, 1].

    Source: DLMF 8.17.22 (continued fraction), on the side of the mean where it converges fast.
    """
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    scale = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta(a, b))
    if x < (a + 1.0) / (a + b + 2.0):
        return scale * _beta_fraction(a, b, x) / a
    return 1.0 - scale * _beta_fraction(b, a, 1.0 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    d = 1.0 - (a + b) * x / (a + 1.0)
    c, d = 1.0, 1.0 / (d if abs(d) > TINY else TINY)
    h = d
    for k in range(1, _steps(max(a, b))):
        even = k * (b - k) * x / ((a + 2 * k - 1.0) * (a + 2 * k))
        odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1.0))
        for numerator in (even, odd):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > TINY else TINY)
            c = 1.0 + numerator / c
            c = c if abs(c) > TINY else TINY
            h *= d * c
        if abs(d * c - 1.0) < 4.0 * EPSILON:
            break
    return h


def student_tail(t: float, df: float) -> float:
    """P(T > t), T Student's with df degrees of freedom. df: > 0, need not be whole; else ValueError."""
    tail = 0.5 * beta_cdf(positive("df", df) / 2.0, 0.5, df / (df + t * t))
    return tail if t > 0 else 1.0 - tail


def student_quantile(p: float, df: float) -> float:
    """t with P(T <= t) = p, T Student's. p: in (0, 1). df: > 0. Raises ValueError outside these domains.

    The search starts at the normal quantile with two terms of its expansion: Abramowitz & Stegun, 26.7.5.
    """
    tail = min(inside("p", p), 1.0 - p)
    if tail == 0.5:
        return 0.0
    z = -normal_quantile(tail)
    near = z + (z**3 + z) / (4.0 * positive("df", df)) + (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / (96.0 * df * df)
    low, high = 0.99 * near, 1.01 * near
    while student_tail(low, df) < tail:
        low *= 0.5
    while student_tail(high, df) > tail:
        high *= 2.0
    t = find_root(lambda x: tail - student_tail(x, df), low, high)
    return t if p > 0.5 else -t


def student_ratio(z: float, df: float) -> float:
    """Student's quantile in units of the normal one z, which has the same tail. z: > 0. df: > 0."""
    tail = NormalDist().cdf(-positive("z", z))
    return -student_quantile(tail, df) / z if tail > TINY else 1.0


def smallest(enough: Callable[[int], bool], start: int, most: int) -> int | None:
    """The smallest n in (start / 2, most] with enough(n), which must stay true for larger n; None if there is none.

    start: >= 1; it is doubled until it is enough, and then the last interval is halved.
    """
    high = min(start, most)
    while not enough(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def find_root(f: Callable[[float], float], low: float, high: float) -> float:
    """x in [low, high] with f(x) = 0, for continuous f with f(low) <= 0 <= f(high) or the reverse; f may be infinite.

    Stops at f = 0 or when the bracket is 1e-13 of x wide. Raises ValueError if f has the same sign at both ends.
    Source: Chandrupatla 1997, Advances in Engineering Software 28(3): inverse quadratic interpolation where the last
    three points promise that it converges, else bisection.
    """
    a, b, f_a, f_b = low, high, f(low), f(high)  # the last point, and the other end of the bracket
    if f_a * f_b > 0:
        raise ValueError(f"no change of sign between f({low!r}) = {f_a!r} and f({high!r}) = {f_b!r}")
    part = 0.5  # of the way from a to b, where the next point lies
    for _ in range(400):
        best = a if abs(f_a) < abs(f_b) else b
        if f_a == 0.0 or f_b == 0.0 or abs(b - a) <= _ROOT_WIDTH * abs(best):
            break
        least = 0.5 * _ROOT_WIDTH * abs(best) / abs(b - a)  # so that both ends come near
        x = a + min(1.0 - least, max(least, part)) * (b - a)
        if x in (a, b):
            break
        y = f(x)
        if y * f_a > 0:
            c, f_c = a, f_a
        else:
            c, f_c, b, f_b = b, f_b, a, f_a
        a, f_a, part = x, y, 0.5
        xi, phi = (a - b) / (c - b), (f_a - f_b) / (f_c - f_b)
        if phi * phi < xi and (1.0 - phi) ** 2 < 1.0 - xi:
            part = f_a / (f_b - f_a) * f_c / (f_b - f_c) + (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b)
    return best
