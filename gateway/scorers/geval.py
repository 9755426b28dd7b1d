"""G-Eval's four criteria for summaries as judges that need only a model: `{use: geval_coherence, model: referee}`.

The criteria and scales are those of SummEval that G-Eval uses; the prompt is this project's own, with its fences and
its structured verdict, so the values are comparable among themselves and not with published ones. Changing a text here
needs a new name, since a score's identity has the name and not the text.
Sources: Liu et al., "G-Eval", arXiv:2303.16634, section 3 and appendix A; Fabbri et al., "SummEval", arXiv:2007.12626.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gateway.scorers.judge import Judge, JudgeOptions, PairwiseJudge, RunJudge, judge
from gateway.scoring.asker import Asker
from gateway.scoring.options import InvalidOptions

_CRITERIA = {
    "coherence": "Coherence of the answer as a summary of the text in the conversation: its sentences together are "
    "well structured and well organized, and build from sentence to sentence to one body of information about the "
    "topic, rather than being a heap of related facts.",
    "consistency": "Factual consistency of the answer as a summary of the text in the conversation: every statement of "
    "it follows from that text. Statements that the text does not support lower the grade, true or not.",
    "fluency": "Fluency of the answer as a summary: grammar, spelling, punctuation, choice of words and structure of "
    "each sentence, whatever it says.",
    "relevance": "Relevance of the answer as a summary of the text in the conversation: it has the important content "
    "of that text and only this. Redundancies and details that do not matter lower the grade.",
}
_SCALES = {"fluency": (1, 3)}  # the others: 1 to 5


def coherence(name: str, asker: Asker, directory: Path, options: JudgeOptions) -> Judge | PairwiseJudge | RunJudge:
    return _summary_judge("coherence", name, asker, directory, options)


def consistency(name: str, asker: Asker, directory: Path, options: JudgeOptions) -> Judge | PairwiseJudge | RunJudge:
    return _summary_judge("consistency", name, asker, directory, options)


def fluency(name: str, asker: Asker, directory: Path, options: JudgeOptions) -> Judge | PairwiseJudge | RunJudge:
    return _summary_judge("fluency", name, asker, directory, options)


def relevance(name: str, asker: Asker, directory: Path, options: JudgeOptions) -> Judge | PairwiseJudge | RunJudge:
    return _summary_judge("relevance", name, asker, directory, options)


def _summary_judge(
    which: str, name: str, asker: Asker, directory: Path, options: JudgeOptions
) -> Judge | PairwiseJudge | RunJudge:
    """The judge with the criterion and, unless the section has another, its scale. Raises InvalidOptions."""
    if options.criterion is not None:
        raise InvalidOptions([f".criterion: geval_{which} has its own; use a judge for another criterion"])
    if options.unit == "run":
        raise InvalidOptions([f".unit: geval_{which} judges one summary; use a judge for runs"])
    if options.kind not in ("pointwise", "pairwise"):
        raise InvalidOptions([f".kind: geval_{which} is pointwise or pairwise, not {options.kind}"])
    default = options.scale == JudgeOptions(model="any").scale
    scale = _SCALES.get(which, options.scale) if default else options.scale
    return judge(name, asker, directory, replace(options, criterion=_CRITERIA[which], scale=scale))
