"""GPT-2, built lesson by lesson: each module here is made from the lesson of its name.

`from gpt2_lesson import GPT2Model` imports the lesson that defines the model at that
moment, so `import gpt2_lesson` alone costs nothing. The first lesson's function has its
module's name: `from gpt2_lesson.attention import attention`.
"""

from importlib import import_module

__version__ = "0.1.0"

_LESSONS = {
    "files": ["CheckpointError"],
    "causal_masking": ["causal_mask"],
    "multi_head": ["split_heads", "merge_heads", "KVCache", "MultiHeadAttention"],
    "feed_forward": ["gelu", "FeedForward"],
    "layer_norm": ["LayerNorm", "TransformerBlock"],
    "generation": ["sample_next", "generate"],
    "gpt2_model": ["GPT2_SIZES", "GPT2Config", "GPT2Model"],
    "training": [
        "next_token_loss",
        "get_batch",
        "learning_rate",
        "make_optimizer",
        "TrainSettings",
        "train",
        "evaluate",
    ],
    "checkpoints": ["save_checkpoint", "load_checkpoint"],
    "tokenizer": ["Tokenizer"],
    "real_gpt2": ["PARAMETER_NAMES", "load_gpt2", "save_gpt2"],
    "measuring": ["perplexity", "bits_per_byte", "score_choices"],
    "looking_inside": [
        "attention_maps",
        "logit_lens",
        "ablate_heads",
        "patch_activations",
        "logit_attribution",
        "induction_score",
    ],
    "speed": ["count_flops", "count_bytes", "roofline", "quantize_int8"],
    "scaling_out": [
        "distributed_setup",
        "distributed_step",
        "distributed_finish",
        "parallelize",
        "rank_rows",
        "average_gradients",
    ],
    "finetuning": [
        "encode_requests",
        "answer_loss",
        "LoRALinear",
        "add_lora",
        "merge_lora",
        "lora_state",
        "save_adapter",
        "load_adapter",
    ],
    "rewards": [
        "rollout",
        "group_advantage",
        "policy_gradient_loss",
        "policy_gradient_step",
        "kl_to_reference",
        "dpo_loss",
    ],
}
_LESSON_OF = {name: lesson for lesson, names in _LESSONS.items() for name in names}
__all__ = list(_LESSON_OF)


def __getattr__(name: str) -> object:
    """Return a name that a lesson exports. Raises AttributeError for any other."""
    if name not in _LESSON_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LESSON_OF[name]}"), name)


def __dir__() -> list[str]:
    """Return all names, those of the lessons too."""
    return sorted({*globals(), *_LESSON_OF})
