"""Lesson 09: what predictions and measurements on tokens should give."""

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

# Tokens per word of the three sentences with 300 merges learned from stories, measured.
_TOKENS = {"English": 33 / 14, "German": 43 / 12, "Greek": 139 / 13}
_BY_LETTER = {"English": 33 / 14, "German": 42 / 12, "Greek": 76 / 13}
_LETTERS = Mistake(
    "T6", "letters counted, not UTF-8 bytes", "Greek letters are two bytes each",
    "How many bytes has a Greek letter?", "look at how the text becomes numbers",
    "list(piece.encode())", mark="V")
_TURNED = Mistake(
    "T8w", "words per token, not tokens per word", "the shares are below 1",
    "Which number is divided by which?", "look at the division",
    "number of tokens / number of words", mark="R")

ANSWERS = (
    Answer("09.1", "how many byte tokens, and how many letters, has 'naïve 🙂'?",
           {"letters": 7, "byte tokens": 11}, predict=True,
           hints=("One byte holds 256 values, and there are more letters than that.",
                  "Letters of ASCII take one byte. And ï, and 🙂?",
                  "n, a, v, e and the space take one byte each, ï two, 🙂 four."),
           solution='predicted = {"letters": 7, "byte tokens": 11}'),
    Answer("09.5", "tokens per word in three languages", _TOKENS, rtol=0.01,
           wrong=((_BY_LETTER, _LETTERS),
                  ({key: 1 / value for key, value in _TOKENS.items()}, _TURNED)),
           hints=("Encode each piece of the sentence, and count the ids.",
                  "PIECES.findall(sentence), then merge_piece(list(piece.encode()), "
                  "merges).",
                  "sum of the lengths / len(sentence.split())"),
           solution="""\
def tokens_per_word(sentence):
    ids = [merge_piece(list(piece.encode()), merges)
           for piece in PIECES.findall(sentence)]
    return sum(map(len, ids)) / len(sentence.split())"""),
)
