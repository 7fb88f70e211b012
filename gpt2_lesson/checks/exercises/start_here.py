"""Lesson 00: probabilities, negative log-likelihood and loss."""

import math

from gpt2_lesson.checks.exercise import Answer, Mistake
from gpt2_lesson.checks.probing import Value

_LN = "the cross-entropy of one byte is -ln(1/256), in nats"
_BITS_1 = Mistake(
    "S16", "bits, not nats", "the number is right in bits; a bit is 0.693 nats",
    "Which logarithm gives nats?", "look at the base of the logarithm", _LN)
_SIGN_1 = Mistake(
    "S17", "the sign lost: ln p, not -ln p", "ln p is negative, and a loss is not",
    "Can a loss be below 0?", "look for the minus", _LN)
_PROBABILITY_1 = Mistake(
    "S18", "the probability of a byte, not its negative logarithm",
    "1/256 is what the model gives to each byte", "How does a probability become a "
    "loss?", "look for the logarithm", _LN)
_PERPLEXITY_1 = Mistake(
    "S19", "the number of bytes (the perplexity), not its logarithm",
    "256 is e to the power of the loss", "How does a probability become a loss?",
    "look for the logarithm", _LN)
_TENS_1 = Mistake(
    "S20", "a logarithm to the base 10", "the unit is the nat, which needs base e",
    "Which logarithm gives nats?", "look at the base of the logarithm", _LN)
_NOTHING_1 = Mistake(
    "S21", "no loss at all", "a loss of 0 needs the probability 1 for what comes",
    "Which probability does this model give to the byte that comes?",
    "compare 1/256 with 1", _LN)

_LEFT = "divide each by 0.4, their sum"
_ADD_UP = "add up your four numbers"
_MUST = "What must the probabilities of all that can still happen add up to?"
_NOT_SCALED = Mistake(
    "S1", "probabilities that no longer add up to 1",
    "0.25 + 0.1 + 0.04 + 0.01 = 0.4: the probability of the excluded word is missing",
    _MUST, _ADD_UP, _LEFT)
_EVEN = Mistake(
    "S2", "the excluded word's probability given out evenly",
    "each gained 0.15, so that 'of' is now 16 times as probable as before",
    "'sofa' was 25 times as probable as 'of'. Has that changed?",
    "did you add something, or divide?", _LEFT)
_ALIKE = Mistake(
    "S2b", "the same probability for each of the four",
    "'sofa' was 25 times as probable as 'of', and now it is not",
    "The ratios stay. Which ratio do your numbers have?", "what did you divide?", _LEFT)
_ONE = Mistake(
    "S2c", "the excluded word's probability given to 'sofa' alone",
    "'sofa' was 2.5 times as probable as 'moon', and now it is 8.5 times",
    "What does each word gain, if the ratios stay?",
    "did you add something, or divide?", _LEFT)
_EXCLUDED = Mistake(
    "S1b", "divided by 0.6, the excluded word's probability",
    "the four now add up to 0.667: 0.6 is what is gone, not what is left",
    _MUST, _ADD_UP, _LEFT)
_TIMES = Mistake(
    "S1c", "multiplied by 0.6, or by 1.6",
    "the ratios stay, but the four don't add up to 1",
    "By which factor does 0.4 grow to 1?", _ADD_UP, _LEFT)
_PERCENT = Mistake(
    "S1d", "percent", "the four add up to 100",
    "Which number stands for certainty: 1 or 100?", _ADD_UP, "0.625, not 62.5")
_FORGOT = Mistake(
    "S3", "a softmax of the probabilities",
    "they are probabilities already: e is not needed",
    "What are the ratios of the four words before, and after?",
    "look for exp or softmax", _LEFT)
_TRUE_ODDS = Mistake(
    "S22", "odds, p / (1 - p), not probabilities",
    "odds compare a word with all others; they don't add up to 1",
    _MUST, "look for 1 - p", "p / 0.4, without a further step")

_SUM = Mistake(
    "S4", "the sum over the words, not their mean",
    "a longer text would make any model worse",
    "Should a text twice as long have twice the loss?", "look at the last step",
    "divide by the number of words, 4")
_SIGN = Mistake(
    "S5", "the sign lost: a mean of ln p", "ln p is negative, and -ln p is not",
    "Which should cost more, p = 0.1 or p = 0.6?", "look for the minus",
    "-math.log(p)")
_BITS = Mistake(
    "S6", "a logarithm to the base 2: bits, not nats",
    "the number is right in bits; a bit is 0.693 nats",
    "Which logarithm gives nats?", "look at the name of the logarithm", "math.log")
_TENS = Mistake(
    "S7", "a logarithm to the base 10", "the unit is the nat, which needs base e",
    "Which logarithm gives nats?", "look at the name of the logarithm",
    "math.log, not math.log10")
_AVERAGED = Mistake(
    "S8", "-ln of the mean probability",
    "averaged before the logarithm, the improbable word hardly counts",
    "Is the mean of logs the log of the mean?", "what is averaged, and when?",
    "first -ln p of each word, then their mean")
_ENTROPY = Mistake(
    "S9", "the loss that the model itself expects (its entropy)",
    "weighted with the model's own probabilities, not with the words that came",
    "Who decides how often each word counts: the model, or the text?",
    "what multiplies the logarithms?", "one term for each word that came")
_ONCE = Mistake(
    "S10", "'mat' counted once, though it came twice",
    "this is the mean over mat, sofa and moon", "How many texts are there?",
    "how often does 0.6 occur in your sum?", "mat, mat, sofa, moon: four terms")
_VOCABULARY = Mistake(
    "S11", "the five words of the vocabulary, each once",
    "Tuesday and of did not come", "Which words came, and how often?",
    "how many terms has your sum?", "mat, mat, sofa, moon: four terms")
_FIVE = Mistake(
    "S12", "divided by 5, the size of the vocabulary, not by 4",
    "the sum is right", "How many words came?",
    "look at the division", "divide by the number of words that came, 4")
_NO_LOG = Mistake(
    "S13", "the mean of the probabilities", "no logarithm was taken: a better model "
    "would get a larger number", "Should a better model have a larger loss?",
    "look for the logarithm", "-math.log(p) of each, then the mean")
_PERPLEXITY = Mistake(
    "S14", "e to the power of the loss", "the loss is its logarithm",
    "In which unit is -ln p?", "look at the last step", "leave out exp")
_PRODUCT = Mistake(
    "S15", "the product of the probabilities", "minus its logarithm is the sum of the "
    "four terms, and the loss is a quarter of that", "What is the loss of one word?",
    "look for the logarithm", "-math.log(p) of each, then the mean")
_LOGITS = Mistake(
    "S32", "F.cross_entropy of the probabilities", "it takes logits and applies a "
    "softmax, which probabilities don't need",
    "What does F.cross_entropy do before it takes a logarithm?",
    "look at the argument of F.cross_entropy", "-math.log(p) of each, then the mean")

_SUMMED = Mistake(
    "S23", "the sum over the characters, not their mean",
    "a longer text would make any model worse",
    "Should a text twice as long have twice the loss?", "look at the last step",
    "token_nll(story).mean()")
_COUNTED = Mistake(
    "S24", "divided by all characters, the first one too",
    "the first character is not predicted, so it has no NLL",
    "How many numbers does token_nll return?", "look at the division",
    "token_nll(story).mean()")
_NEXT = Mistake(
    "S25", "one character too far: the NLL of the a of lamp",
    "after the l, only one character is possible: the a costs nothing",
    "Which character does entry 0 of token_nll belong to?", "look at the index",
    'token_nll(snowy)[snowy.index("lamp") - 1]')
_FOGGY = Mistake(
    "S26", "the l after foggy, not after snowy",
    "this is about ln 4: on a foggy dusk, four things can be found",
    "Which text did you measure?", "look at the text that token_nll was given",
    'snowy = story.replace("foggy", "snowy")')
_IN_BITS = Mistake(
    "S27", "bits, not nats", "the numbers are right in bits; a bit is 0.693 nats",
    "In which unit does token_nll count?", "look for log2 or a division by ln 2",
    "leave the division out")

_RULED_OUT = Mistake(
    "S28", "the frequencies of the words, with 0 for those that did not come",
    "nothing has a lower loss, but two words are ruled out",
    "What would the loss be if 'of' came next?", "look at the last two numbers",
    "0.01 for each of the two, and a little less for the others")
_ON_ONE = Mistake(
    "S29", "everything on the most frequent word",
    "'mat' is cheap now, and 'sofa' and 'moon' cost 4.6 nats each",
    "What does each of the four words cost?", "look at 'sofa' and 'moon'",
    "'mat' came twice as often as 'sofa': twice the probability")
_NO_OPINION = Mistake(
    "S30", "no opinion", "the loss is ln 5 = 1.61, whatever comes",
    "Which words came more often than others?", "look at the frequencies",
    "'mat' came twice in four texts: about 1/2")
_OLD_OPINION = Mistake(
    "S31", "the opinion of 00.3, unchanged", "its loss is 1.18",
    "Did 'moon' come less often than 'sofa'?", "compare 0.25 and 0.1 with what came",
    "'sofa' and 'moon' came equally often: the same probability")


def _better(value: Value) -> list[str]:
    """Return what is wrong with five probabilities: sum, smallest, or their loss."""
    probs = [float(p) for p in value]
    if len(probs) != 5:
        return [f"{len(probs)} numbers, expected five, in the order of `words`"]
    if min(probs) < 0.01 - 1e-6:
        return [f"the smallest is {min(probs):.4g}, expected at least 0.01"]
    if abs(sum(probs) - 1) > 1e-3:
        return [f"they add up to {sum(probs):.4g}, expected 1"]
    mat, sofa, moon, *_ = probs
    loss = -(2 * math.log(mat) + math.log(sofa) + math.log(moon)) / 4
    return [f"the loss is {loss:.3f} nats, expected less than 1.07"] * (loss >= 1.07)


ANSWERS = (
    Answer("00.1", "the loss, in nats, of a model with no opinion about 256 bytes",
           math.log(256), decimals=1, precision="one decimal is", predict=True,
           wrong=((8, _BITS_1), (-math.log(256), _SIGN_1), (1 / 256, _PROBABILITY_1),
                  (256, _PERPLEXITY_1), (math.log10(256), _TENS_1), (0, _NOTHING_1)),
           hints=("What is the probability of each byte, and what is the negative "
                  "log-likelihood, -ln p, of an event with that probability?",
                  "No opinion: every byte has the probability 1/256.",
                  "math.log(256)"),
           solution="no_opinion = math.log(256)"),
    Answer("00.2", "the probabilities of sofa, moon, Tuesday and of, when it is not "
           "mat", [0.625, 0.25, 0.1, 0.025], decimals=2, precision="two decimals are",
           wrong=(([0.25, 0.1, 0.04, 0.01], _NOT_SCALED),
                  ([0.4, 0.25, 0.19, 0.16], _EVEN), ([0.25] * 4, _ALIKE),
                  ([0.85, 0.1, 0.04, 0.01], _ONE),
                  ([0.25 / 0.6, 0.1 / 0.6, 0.04 / 0.6, 0.01 / 0.6], _EXCLUDED),
                  ([0.15, 0.06, 0.024, 0.006], _TIMES),
                  ([0.4, 0.16, 0.064, 0.016], _TIMES), ([62.5, 25, 10, 2.5], _PERCENT),
                  ([0.289193, 0.248912, 0.234416, 0.227488], _FORGOT),
                  ([5 / 3, 1 / 3, 1 / 9, 1 / 39], _TRUE_ODDS)),
           hints=("Probabilities of everything that can happen add up to 1. What do "
                  "the four add up to now?",
                  "The four add up to 0.4, and their ratios should stay.",
                  "0.25 / 0.4, 0.1 / 0.4, ..."),
           solution="without_mat = [p / 0.4 for p in (0.25, 0.1, 0.04, 0.01)]"),
    Answer("00.3", "the loss over mat, mat, sofa, moon, in nats",
           1.1777, rtol=0.005, precision="two decimals are",
           wrong=((4.7105, _SUM), (-1.1777, _SIGN), (1.699, _BITS), (0.5115, _TENS),
                  (0.948, _AVERAGED), (1.0583, _ENTROPY), (1.3999, _ONCE),
                  (2.4048, _VOCABULARY), (0.9421, _FIVE), (0.3875, _NO_LOG),
                  (3.2467, _PERPLEXITY), (0.009, _PRODUCT), (1.4465, _LOGITS)),
           hints=("One word at a time: mat came with probability 0.6, so it costs "
                  "-ln 0.6 = 0.511. Now the other three.",
                  "First the logarithm of each, then the mean. The other order gives "
                  "another number.",
                  "-(2 ln 0.6 + ln 0.25 + ln 0.1) / 4"),
           solution="came = [0.6, 0.6, 0.25, 0.1]\n"
                    "loss = sum(-math.log(p) for p in came) / len(came)"),
    Answer("00.4", "the loss of the story, the NLL of the l of lamp after snowy, and "
           "the loss of the forecast, in nats",
           {"story": 0.2260, "snowy l": 9.8969, "forecast": 8.4717},
           rtol=0.001, atol=0.0041, precision="two decimals are",
           wrong=(({"story": 11.0741, "forecast": 271.0936}, _SUMMED),
                  ({"story": 11.0741}, _SUMMED), ({"forecast": 271.0936}, _SUMMED),
                  ({"story": 0.2215, "forecast": 8.2150}, _COUNTED),
                  ({"forecast": 8.2150}, _COUNTED),
                  ({"snowy l": 0.0}, _NEXT), ({"snowy l": 1.3944}, _FOGGY),
                  ({"story": 0.3261, "snowy l": 14.2782, "forecast": 12.2221},
                   _IN_BITS)),
           hints=("token_nll(story) returns a tensor with one number for each "
                  "character except the first. What is the loss, in terms of these?",
                  'story.index("lamp") is the position of the l. Entry 0 of token_nll '
                  "belongs to the character at position 1.",
                  'token_nll(story).mean().item(), and after snowy = '
                  'story.replace("foggy", "snowy"): '
                  'token_nll(snowy)[snowy.index("lamp") - 1].item()'),
           solution='snowy = story.replace("foggy", "snowy")\n'
                    "measured = {\n"
                    '    "story": token_nll(story).mean().item(),\n'
                    '    "snowy l": token_nll(snowy)[snowy.index("lamp") - 1].item(),\n'
                    '    "forecast": token_nll(forecast).mean().item(),\n'
                    "}"),
    Answer("00.5", "five probabilities whose loss over mat, mat, sofa, moon is below "
           "1.07 nats, each at least 0.01",
           [0.49, 0.245, 0.245, 0.01, 0.01], atol=0.002, test=_better,
           wrong=(([0.5, 0.25, 0.25, 0, 0], _RULED_OUT),
                  ([0.96, 0.01, 0.01, 0.01, 0.01], _ON_ONE),
                  ([0.2] * 5, _NO_OPINION),
                  ([0.6, 0.25, 0.1, 0.04, 0.01], _OLD_OPINION)),
           hints=("The model of 00.3 has a loss of 1.18. Which of its five numbers is "
                  "too large for these texts?",
                  "How often did each of the five words come in the four texts?",
                  "0.01 for Tuesday and for of; the other 0.98 in the proportions 2, 1 "
                  "and 1"),
           solution="best = [0.49, 0.245, 0.245, 0.01, 0.01]"),
)
