"""Lesson 09: what predictions and measurements on tokens should give."""

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

# Tokens per word of the three sentences with 300 merges learned from stories, measured.
_TOKENS = {"English": 33 / 14, "German": 43 / 12, "Greek": 139 / 13}
_BY_LETTER = {"English": 33 / 14, "German": 42 / 12, "Greek": 76 / 13}
_LETTERS = Mistake(
    "T6", "characters counted, not UTF-8 bytes", "Greek letters are two bytes each",
    "How many bytes has a Greek letter?", "look at how the text becomes numbers",
    "list(piece.encode())", mark="V")
_TURNED = Mistake(
    "T8w", "words per token, not tokens per word", "a word has one token at least",
    "Which number is divided by which?", "look at the division",
    "number of tokens / number of words", mark="R")
_NO_MERGES = Mistake(
    "T8b", "bytes per word: nothing was merged",
    "English takes as many tokens as it has bytes", "Which merges does your text meet?",
    "look for merge_piece", "merge_piece(list(piece.encode()), merges)", mark="R")
_TOTAL = Mistake(
    "T8t", "tokens of the whole sentence, not per word",
    "the sentences have 14, 12 and 13 words", "Divided by what?",
    "look at the last step", "/ len(sentence.split())", mark="R")
_BARE = Mistake(
    "T8s", "words encoded without the space before them",
    "a pre-token of GPT-2 begins with its space", "What does PIECES.findall give?",
    "look for split where the pieces are made", "PIECES.findall(sentence)", mark="R")


def _text(id: str, name: str, why: str, idea: str) -> Mistake:
    return Mistake(id, name, why, idea, "write the bytes under each character",
                   "5 characters of one byte, ï two, 🙂 four", mark="R")


_COUNT = "How many characters are there, and how many bytes has each?"
_CHARACTERS, _BYTES = "characters", "byte tokens"
_TEXT_WRONG = (
    ({_CHARACTERS: 6}, _text("T13", "the space not counted", "a space is a character",
                             _COUNT)),
    ({_CHARACTERS: 5}, _text("T14", "only the letters counted",
                             "the space and the emoji are characters, too", _COUNT)),
    ({_CHARACTERS: 11}, _text("T15", "bytes, where characters are asked for",
                              "len(text) counts characters", _COUNT)),
    ({_BYTES: 7}, _text("T16", "one byte for each character",
                        "a byte has 256 values, and there are more "
                        "characters", _COUNT)),
    ({_BYTES: 8}, _text("T17", "one byte for the emoji", "🙂 takes four "
                                                         "bytes", _COUNT)),
    ({_BYTES: 9}, _text("T18", "two bytes for the emoji", "🙂 takes four bytes",
                        _COUNT)),
    ({_BYTES: 10}, _text("T19", "one byte too few: for the ï, the space or the emoji",
                         "ï takes two bytes, the space one and the emoji "
                         "four", _COUNT)),
    ({_BYTES: 14}, _text("T20", "two bytes for each character",
                         "ASCII takes one byte in UTF-8", _COUNT)),
    ({_BYTES: 28}, _text("T21", "four bytes for each character",
                         "ASCII takes one byte in UTF-8", _COUNT)))

ANSWERS = (
    Answer("09.1", "the number of characters and of byte tokens of 'naïve 🙂'",
           {_CHARACTERS: 7, _BYTES: 11}, wrong=_TEXT_WRONG, predict=True,
           hints=("The characters of ASCII, and the space, take one byte. How many "
                  "does an emoji take?",
                  "One byte has 256 values, and there are more characters than that. "
                  "And ï?",
                  "n, a, v, e and the space take one byte each, ï two, 🙂 four."),
           solution='predicted = {"characters": 7, "byte tokens": 11}'),
    Answer("09.5", "tokens per word in three languages", _TOKENS, rtol=0.01,
           precision="two decimals are",
           wrong=((_BY_LETTER, _LETTERS),
                  ({key: 1 / value for key, value in _TOKENS.items()}, _TURNED),
                  ({"English": 64 / 14, "German": 62 / 12, "Greek": 139 / 13},
                   _NO_MERGES),
                  ({"English": 33, "German": 43, "Greek": 139}, _TOTAL),
                  ({"English": 37 / 14, "German": 41 / 12, "Greek": 127 / 13}, _BARE)),
           hints=("PIECES.findall(sentence), then the bytes of each piece, then "
                  "merge_piece. Add up the lengths.",
                  "A Greek letter has two bytes, and none of the 300 merges was "
                  "learned from Greek. So how many tokens has a Greek letter?",
                  "sum of the lengths / len(sentence.split())"),
           solution="""\
def tokens_per_word(sentence):
    ids = [merge_piece(list(piece.encode()), merges)
           for piece in PIECES.findall(sentence)]
    return sum(map(len, ids)) / len(sentence.split())"""),
)
