"""Models to train by name, each with the settings that suit it."""

from dataclasses import replace

from gpt2_lesson.gpt2_model import GPT2_SIZES, GPT2Config
from gpt2_lesson.training import TrainSettings

# The model and its training settings; vocab_size is replaced by the tokenizer's.
PRESETS: dict[str, tuple[GPT2Config, TrainSettings]] = {
    "demo": (
        GPT2Config(
            256,
            d_model=256,
            num_heads=8,
            num_layers=4,
            max_seq_length=128,
            d_ff=1024,
            dropout=0.0,
        ),
        TrainSettings(steps=1000, seq_length=129, batch_size=32, max_lr=1e-3),
    ),
    "story": (  # the model that the package ships
        GPT2Config(
            256,
            d_model=128,
            num_heads=4,
            num_layers=4,
            max_seq_length=256,
            d_ff=512,
            dropout=0.0,
        ),
        TrainSettings(
            steps=4000,
            seq_length=257,
            batch_size=16,
            max_lr=0.02,
            weight_decay=0.0,
            optimizer="muon",
        ),
    ),
    "shakespeare": (  # the size of nanoGPT's CPU experiment, with other settings
        GPT2Config(
            256,
            d_model=128,
            num_heads=4,
            num_layers=4,
            max_seq_length=128,
            d_ff=512,
            dropout=0.0,
        ),
        TrainSettings(
            steps=850,
            seq_length=129,
            batch_size=16,
            max_lr=0.035,
            decay="linear",
            weight_decay=0.0,
            optimizer="muon",
            momentum=0.9,
            adam_lr_scale=0.5,
        ),
    ),
} | {
    name: (
        replace(GPT2_SIZES[name], vocab_size=256),
        TrainSettings(
            steps=10_000,
            seq_length=1025,
            batch_size=4,
            accumulation=8,
            max_lr=max_lr,
            warmup_steps=200,
        ),
    )
    for name, max_lr in (
        ("gpt2", 6e-4),
        ("gpt2-medium", 3e-4),
        ("gpt2-large", 2.5e-4),
        ("gpt2-xl", 2e-4),
    )  # learning rates: Brown et al. 2020, table 2.1
}
RATES = {"adamw": 1e-3, "muon": 0.02}  # when only the optimizer is given
