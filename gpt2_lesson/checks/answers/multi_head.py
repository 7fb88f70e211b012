"""Lesson 03: what heads cost, predicted."""

from gpt2_lesson.checks.values import Answer

ANSWERS = (
    Answer("03.1", "parameters, products and weights, with 1 head and with 8",
           {"parameters": [1_050_624, 1_050_624],
            "products for q @ k.T": [5_120_000, 5_120_000],
            "attention weights": [10_000, 80_000]}, predict=True,
           hints=("Which of the three depend on how the channels are grouped?",
                  "Parameters: a matrix C x 3C and one C x C, each with a bias. "
                  "Products: D for each pair of tokens in each head. Weights: one for "
                  "each pair in each head.",
                  "4 * C**2 + 4 * C; H * T * T * D with D = C / H; H * T * T"),
           solution='predicted = {"parameters": [1_050_624, 1_050_624],\n'
                    '             "products for q @ k.T": [5_120_000, 5_120_000],\n'
                    '             "attention weights": [10_000, 80_000]}'),
)
