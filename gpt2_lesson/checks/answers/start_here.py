"""Lesson 00: odds, surprise and loss."""

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

_NOT_SHARED = Mistake(
    "S1", "odds that no longer add up to 1",
    "0.25 + 0.1 + 0.04 + 0.01 = 0.4: the share of the excluded word is missing",
    "What must the odds of all that can still happen add up to?",
    "add up your four numbers", "divide each by 0.4, their sum")
_EVEN = Mistake(
    "S2", "the excluded word's share given out evenly",
    "each gained 0.15, so that 'of' is now 16 times as likely as before",
    "'sofa' was 25 times as likely as 'of'. Has that changed?",
    "did you add something, or divide?", "divide each by 0.4, their sum")
_ALIKE = Mistake(
    "S2b", "the same share for each of the four",
    "'sofa' was 25 times as likely as 'of', and now it is not",
    "The ratios stay. Which ratio do your numbers have?",
    "what did you divide?", "divide each by 0.4, their sum")
_ONE = Mistake(
    "S2c", "the excluded word's share given to 'sofa' alone",
    "'sofa' was 2.5 times as likely as 'moon', and now it is 8.5 times",
    "Who gets a part of the share, if the ratios stay?",
    "did you add something, or divide?", "divide each by 0.4, their sum")
_EXCLUDED = Mistake(
    "S1b", "divided by 0.6, the excluded word's share",
    "the four now add up to 0.667: 0.6 is what is gone, not what is left",
    "What must the odds of all that can still happen add up to?",
    "add up your four numbers", "divide each by 0.4, their sum")
_TIMES = Mistake(
    "S1c", "multiplied by 0.6, or by 1.6",
    "the ratios stay, but the four don't add up to 1",
    "By which factor does 0.4 grow to 1?",
    "add up your four numbers", "divide each by 0.4, their sum")
_PERCENT = Mistake(
    "S1d", "percent, not shares of 1", "the four add up to 100",
    "Which number stands for certainty: 1 or 100?", "add up your four numbers",
    "0.625, not 62.5")
_FORGOT = Mistake(
    "S3", "a softmax of the odds", "odds are shares already: e is not needed",
    "What are the ratios of the four words before, and after?",
    "look for exp or softmax", "divide each by 0.4, their sum")

_SUM = Mistake(
    "S4", "the sum of the surprises, not their mean",
    "a longer text would make any model worse",
    "Should a text twice as long have twice the loss?", "look at the last step",
    "divide by the number of words, 4")
_SIGN = Mistake(
    "S5", "the sign lost: a mean of ln p", "ln p is negative, and a surprise is not",
    "Which is more surprising, p = 0.1 or p = 0.6?", "look for the minus",
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
    "S8", "the surprise of the mean probability",
    "averaged before the logarithm, the unlikely word hardly counts",
    "Is the mean of logs the log of the mean?", "what is averaged, and when?",
    "first each word's surprise, then their mean")
_ENTROPY = Mistake(
    "S9", "the surprise that the model itself expects (its entropy)",
    "weighted with the model's own odds, not with the words that came",
    "Who decides how often each word counts: the model, or the text?",
    "what multiplies the logarithms?", "one term for each word that came")
_ONCE = Mistake(
    "S10", "'mat' counted once, though it came twice",
    "this is the mean over mat, sofa and moon", "How many texts are there?",
    "how often does 0.6 stand in your sum?", "mat, mat, sofa, moon: four terms")
_VOCABULARY = Mistake(
    "S11", "the five words of the vocabulary, each once",
    "Tuesday and of did not come", "Which words came, and how often?",
    "how many terms has your sum?", "mat, mat, sofa, moon: four terms")
_FIVE = Mistake(
    "S12", "divided by 5, the size of the vocabulary, not by 4",
    "the sum of the surprises is right", "How many words came?",
    "look at the division", "divide by the number of words that came, 4")
_NO_LOG = Mistake(
    "S13", "the mean of the probabilities", "no logarithm was taken: a better model "
    "would get a larger number", "Should a better model have a larger loss?",
    "look for the logarithm", "-math.log(p) of each, then the mean")
_PERPLEXITY = Mistake(
    "S14", "e to the power of the loss", "the loss is its logarithm",
    "In which unit is a surprise?", "look at the last step", "leave out exp")
_PRODUCT = Mistake(
    "S15", "the product of the probabilities", "the four surprises are its logarithm, "
    "with a minus, and the loss is a quarter of that", "What is a surprise?",
    "look for the logarithm", "-math.log(p) of each, then the mean")

ANSWERS = (
    Answer("00.1", "the loss, in nats, of a model with no opinion about 256 bytes",
           5.545, atol=0.05, predict=True,
           hints=("No opinion: every byte gets the same probability.",
                  "The surprise of each byte is -ln(1/256).", "math.log(256)"),
           solution="no_opinion = math.log(256)"),
    Answer("00.2", "the odds of sofa, moon, Tuesday and of, when it is not mat",
           [0.625, 0.25, 0.1, 0.025], atol=0.0051,
           wrong=(([0.25, 0.1, 0.04, 0.01], _NOT_SHARED),
                  ([0.4, 0.25, 0.19, 0.16], _EVEN), ([0.25] * 4, _ALIKE),
                  ([0.85, 0.1, 0.04, 0.01], _ONE),
                  ([0.4167, 0.1667, 0.0667, 0.0167], _EXCLUDED),
                  ([0.15, 0.06, 0.024, 0.006], _TIMES),
                  ([0.4, 0.16, 0.064, 0.016], _TIMES), ([62.5, 25, 10, 2.5], _PERCENT),
                  ([0.2892, 0.2489, 0.2344, 0.2275], _FORGOT)),
           hints=("What is left must add up to 1, and keep its ratios.",
                  "The four add up to 0.4.", "0.25 / 0.4, 0.1 / 0.4, ..."),
           solution="without_mat = [p / 0.4 for p in (0.25, 0.1, 0.04, 0.01)]"),
    Answer("00.3", "the mean surprise, in nats, over mat, mat, sofa, moon",
           1.1777, rtol=0.005,
           wrong=((4.7105, _SUM), (-1.1777, _SIGN), (1.699, _BITS), (0.5115, _TENS),
                  (0.948, _AVERAGED), (1.0583, _ENTROPY), (1.3999, _ONCE),
                  (2.4048, _VOCABULARY), (0.9421, _FIVE), (0.3875, _NO_LOG),
                  (3.2467, _PERPLEXITY), (0.009, _PRODUCT)),
           hints=("First the surprise of each of the four words, then their mean.",
                  "The model gave them 0.6, 0.6, 0.25 and 0.1.",
                  "-(2 ln 0.6 + ln 0.25 + ln 0.1) / 4"),
           solution="came = [0.6, 0.6, 0.25, 0.1]\n"
                    "loss = sum(-math.log(p) for p in came) / len(came)"),
)
