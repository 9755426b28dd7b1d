"""`gateway.assembly.Completion`, the name under which scorers of other packages first imported it.

Nothing in this package imports it; new scorers import it from `gateway.scorers`.
"""

from gateway.core.completion import Completion

__all__ = ["Completion"]
