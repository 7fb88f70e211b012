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

ANSWERS = (
    Answer("00.1", "the loss, in nats, of a model with no opinion about 256 bytes",
           5.545, atol=0.05, predict=True,
           hints=("No opinion: every byte gets the same probability.",
                  "The surprise of each byte is -ln(1/256).", "math.log(256)"),
           solution="no_opinion = math.log(256)"),
    Answer("00.2", "the odds of sofa, moon, Tuesday and of, when it is not mat",
           [0.625, 0.25, 0.1, 0.025], atol=0.0051,
           wrong=(([0.25, 0.1, 0.04, 0.01], _NOT_SHARED),
                  ([0.4, 0.25, 0.19, 0.16], _EVEN),
                  ([0.2892, 0.2489, 0.2344, 0.2275], _FORGOT)),
           hints=("What is left must add up to 1, and keep its ratios.",
                  "The four add up to 0.4.", "0.25 / 0.4, 0.1 / 0.4, ..."),
           solution="without_mat = [p / 0.4 for p in (0.25, 0.1, 0.04, 0.01)]"),
    Answer("00.3", "the mean surprise, in nats, over mat, mat, sofa, moon",
           1.1777, rtol=0.005,
           wrong=((4.7105, _SUM), (-1.1777, _SIGN), (1.699, _BITS), (0.5115, _TENS),
                  (0.948, _AVERAGED), (1.0583, _ENTROPY)),
           hints=("First the surprise of each of the four words, then their mean.",
                  "The model gave them 0.6, 0.6, 0.25 and 0.1.",
                  "-(2 ln 0.6 + ln 0.25 + ln 0.1) / 4"),
           solution="came = [0.6, 0.6, 0.25, 0.1]\n"
                    "loss = sum(-math.log(p) for p in came) / len(came)"),
)
