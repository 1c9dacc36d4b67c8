"""OpenAI's `text_similarity`: how alike two texts are, from 0 to 1.

OpenAI does not publish the details of its measures; these are the usual ones:

    fuzzy_match       2 M / T, M characters of the longest common subsequence, T of both texts
                      together (rapidfuzz `fuzz.ratio`)
    bleu              sentence BLEU, 4-grams, exponential smoothing, effective order, tokeniser 13a
                      (sacrebleu; Papineni et al. 2002, Chen & Cherry 2014)
    gleu              Google's sentence BLEU: the smaller of precision and recall over all 1- to
                      4-grams together (Wu et al. 2016, arXiv:1609.08144, section 4.3), words as
                      split by white space
    rouge_1..rouge_5  F1 over n-grams; rouge_l: F1 by the longest common subsequence (Lin 2004),
                      lower case, letters and digits of ASCII only, no stemming (rouge-score)
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator

from tunesmith.config.section import Section
from tunesmith.evaluate.templates import Template, fill

LEFT_OUT = {
    "meteor": "meteor needs the WordNet data, which no package carries",
    "cosine": "cosine needs an embedding model besides the base",
}
"""Measures of OpenAI that are not here, and why."""


class Config(Section):
    """Measures the likeness of two templates."""

    type: Literal["text_similarity"] = "text_similarity"
    name: str = ""
    """What reports call it."""
    input: Template = "{{sample.output_text}}"
    """The text that is measured."""
    reference: Template = "{{item.reference_answer}}"
    """The text that it should be like."""
    evaluation_metric: Literal[
        "fuzzy_match",
        "bleu",
        "gleu",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ] = "fuzzy_match"
    """The measure."""

    @field_validator("evaluation_metric", mode="before")
    @classmethod
    def _say_why_left_out(cls, value: Any) -> Any:
        if isinstance(value, str) and value in LEFT_OUT:
            raise ValueError(
                f"fuzzy_match, bleu, gleu, rouge_1 to rouge_5 or rouge_l; {LEFT_OUT[value]}"
            )
        return value


def grade(config: Config, output: str, reference: str, row: Mapping[str, Any]) -> float:
    """The measure of the two texts, 0 to 1; an empty text is like nothing but an empty one."""
    text = fill(config.input, output, reference, row)
    wanted = fill(config.reference, output, reference, row)
    if not text.strip() or not wanted.strip():
        return float(text.strip() == wanted.strip())
    if config.evaluation_metric == "fuzzy_match":
        return _fuzzy(text, wanted)
    if config.evaluation_metric == "bleu":
        return _bleu(text, wanted)
    if config.evaluation_metric == "gleu":
        return gleu(text.split(), wanted.split())
    return _rouge(text, wanted, config.evaluation_metric)


def gleu(words: list[str], reference: list[str], longest: int = 4) -> float:
    """Shared n-grams of 1 to `longest` words, as a share of those of the text that has more."""
    grams, wanted = (_grams(text, longest) for text in (words, reference))
    return (grams & wanted).total() / max(grams.total(), wanted.total())


def _grams(words: list[str], longest: int) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[start : start + n])
        for n in range(1, longest + 1)
        for start in range(len(words) - n + 1)
    )


# Each library is imported where it is used: a run needs one of them, and none starts fast.


def _fuzzy(text: str, wanted: str) -> float:
    from rapidfuzz import fuzz

    return fuzz.ratio(text, wanted) / 100


def _bleu(text: str, wanted: str) -> float:
    from sacrebleu import sentence_bleu

    return min(1.0, sentence_bleu(text, [wanted]).score / 100)


def _rouge(text: str, wanted: str, measure: str) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    kind = "rougeL" if measure == "rouge_l" else measure.replace("_", "")
    return RougeScorer([kind], use_stemmer=False).score(wanted, text)[kind].fmeasure
