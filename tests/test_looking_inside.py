"""Lesson 12: what the instruments return equals an independent computation."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.looking_inside import (
    ablate_heads,
    attention_maps,
    induction_score,
    inputs_of,
    logit_attribution,
    logit_lens,
    patch_activations,
)

L, H, D, T, V = 3, 4, 5, 9, 17
C = H * D


@pytest.fixture
def model() -> GPT2Model:
    """Return a model with large random weights and biases, left in train mode."""
    torch.manual_seed(0)
    model = GPT2Model(V, C, H, L, T, 3 * C, dropout=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model.train()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(V, (2, T), generator=torch.Generator().manual_seed(1))


def streams(model: GPT2Model, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return the residual stream before each block and after all, without hooks."""
    model = deepcopy(model).eval()
    with torch.no_grad():
        x = model.tok_emb(ids) + model.pos_emb.weight[: ids.size(1)]
        seen = [x]
        for block in model.blocks:
            x = block(x)
            seen.append(x)
    return seen


def maps_by_loops(model: GPT2Model, ids: torch.Tensor) -> torch.Tensor:
    """Return all weights, one query of one head at a time, from the parameters."""
    maps = torch.zeros(L, len(ids), H, T, T)
    with torch.no_grad():
        for layer, x in enumerate(streams(model, ids)[:-1]):
            block = model.blocks[layer]
            w, b = block.attn.qkv_proj.weight, block.attn.qkv_proj.bias
            x = block.ln_attn(x)
            for h in range(H):
                at = slice(h * D, (h + 1) * D)
                q = x @ w[:C][at].T + b[:C][at]
                k = x @ w[C : 2 * C][at].T + b[C : 2 * C][at]
                for t in range(T):
                    scores = (k[:, : t + 1] * q[:, t : t + 1]).sum(-1) / D**0.5
                    maps[layer, :, h, t, : t + 1] = scores.softmax(-1)
    return maps


def hooks_in(model: GPT2Model) -> int:
    return sum(
        len(module._forward_pre_hooks) + len(module._forward_hooks)
        for module in model.modules()
    )


class TestInputsOf:
    def test_the_blocks_are_given_the_stream(self, model, ids):
        given = inputs_of([*model.blocks, model.ln_final], model, ids)
        for found, expected in zip(given, streams(model, ids), strict=True):
            assert_close(found, expected)

    def test_the_order_is_the_callers(self, model, ids):
        first, last = model.blocks[0], model.ln_final
        assert_close(
            inputs_of([last, first], model, ids),
            inputs_of([first, last], model, ids)[::-1],
        )

    def test_the_model_is_left_as_it_was(self, model, ids):
        before = deepcopy(model.state_dict())
        model.blocks[1].eval()
        inputs_of([model.ln_final], model, ids)
        assert model.training and model.blocks[0].training
        assert not model.blocks[1].training
        assert hooks_in(model) == 0
        assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)

    def test_hooks_are_gone_after_an_error(self, model):
        with pytest.raises(IndexError, match="token id 17"):
            attention_maps(model, torch.tensor([[0, 17]]))
        assert hooks_in(model) == 0 and model.training

    def test_no_gradients_are_kept(self, model, ids):
        assert not inputs_of([model.ln_final], model, ids)[0].requires_grad


class TestAttentionMaps:
    def test_equal_loops_over_queries(self, model, ids):
        assert_close(attention_maps(model, ids), maps_by_loops(model, ids))

    def test_rows_add_up_to_1_though_dropout_was_on(self, model, ids):
        maps = attention_maps(model, ids)
        assert_close(maps.sum(-1), torch.ones(L, 2, H, T))
        assert (maps.triu(1) == 0).all()
        assert_close(maps, attention_maps(model, ids), rtol=0, atol=0)

    def test_inside_a_cut_the_changed_model_is_read(self, model, ids):
        whole = attention_maps(model, ids)
        with ablate_heads(model, [(1, 2)]):
            cut = attention_maps(model, ids)
        assert_close(cut[:2], whole[:2], rtol=0, atol=0)
        assert (cut[2] - whole[2]).abs().max() > 0.01


class TestLogitLens:
    def test_the_last_entry_is_the_models_answer(self, model, ids):
        with torch.no_grad():
            expected = deepcopy(model).eval()(ids)
        assert_close(logit_lens(model, ids)[-1], expected)

    def test_every_entry_reads_the_stream(self, model, ids):
        lens = logit_lens(model, ids)
        assert lens.shape == (L + 1, 2, T, V)
        table = model.tok_emb.weight.detach()
        for found, x in zip(lens, streams(model, ids), strict=True):
            normed = F.layer_norm(
                x, (C,), model.ln_final.weight.detach(), model.ln_final.bias.detach()
            )
            assert_close(found, normed @ table.T, rtol=1e-4, atol=1e-4)


class TestAblateHeads:
    @pytest.mark.parametrize("heads", [[(0, 0)], [(2, 3)], [(1, 1), (1, 2), (0, 3)]])
    def test_equals_columns_of_out_proj_set_to_zero(self, model, ids, heads):
        model.eval()
        copy = deepcopy(model)
        with torch.no_grad():
            for layer, head in heads:
                at = slice(head * D, (head + 1) * D)
                copy.blocks[layer].attn.out_proj.weight[:, at] = 0
            with ablate_heads(model, heads):
                assert_close(model(ids), copy(ids))
            assert (model(ids) - copy(ids)).abs().max() > 0.01

    def test_nothing_cut_changes_nothing(self, model, ids):
        model.eval()
        with torch.no_grad():
            whole = model(ids)
            with ablate_heads(model, []):
                assert_close(model(ids), whole, rtol=0, atol=0)
            with ablate_heads(model, [(0, 1)]):
                pass
            assert_close(model(ids), whole, rtol=0, atol=0)

    def test_one_block_inside_another_cuts_both(self, model, ids):
        model.eval()
        with torch.no_grad():
            with ablate_heads(model, [(0, 1), (1, 0)]):
                expected = model(ids)
            with ablate_heads(model, [(0, 1)]), ablate_heads(model, [(1, 0)]):
                assert_close(model(ids), expected)

    def test_what_another_hook_has_seen_is_not_overwritten(self, model, ids):
        seen = []
        model.blocks[0].attn.out_proj.register_forward_pre_hook(
            lambda module, given: seen.append(given[0])
        )
        with torch.no_grad(), ablate_heads(model.eval(), [(0, 0)]):
            model(ids)
        assert seen[0][..., :D].abs().min() > 0

    def test_hooks_are_gone_after_an_error(self, model):
        with pytest.raises(RuntimeError, match="mine"), ablate_heads(model, [(0, 0)]):
            raise RuntimeError("mine")
        assert hooks_in(model) == 0

    @pytest.mark.parametrize(
        "head, wanted",
        [
            ((3, 0), "layer of a head is 3, expected 0 to 2"),
            ((-1, 0), "is -1"),
            ((0, 4), "head of layer 0 is 4, expected 0 to 3"),
            ((0, -1), "is -1"),
        ],
    )
    def test_a_head_that_is_not_there(self, model, head, wanted):
        with pytest.raises(ValueError, match=wanted), ablate_heads(model, [head]):
            pass
        assert hooks_in(model) == 0


class TestPatchActivations:
    """Values from another prompt, or from the same one, in place of the model's own."""

    @pytest.fixture
    def other(self) -> torch.Tensor:
        return torch.randint(V, (2, T), generator=torch.Generator().manual_seed(2))

    @pytest.mark.parametrize("positions", [None, range(T), [0, 4], []])
    @pytest.mark.parametrize("head", [None, 0, 3])
    @pytest.mark.parametrize("layer", range(L))
    def test_its_own_values_change_nothing(self, model, ids, layer, head, positions):
        block = model.eval().blocks[layer]
        values = inputs_of([block if head is None else block.attn.out_proj], model, ids)
        with torch.no_grad():
            expected = model(ids)
            with patch_activations(model, layer, values[0], positions, head):
                assert_close(model(ids), expected, rtol=0, atol=0)

    @pytest.mark.parametrize("layer", range(L))
    def test_what_a_layer_receives_decides_the_answer(self, model, ids, other, layer):
        received = inputs_of([model.eval().blocks[layer]], model, other)[0]
        with torch.no_grad(), patch_activations(model, layer, received):
            found = model(ids)
        with torch.no_grad():
            assert_close(found, model(other), rtol=0, atol=0)
            assert (found - model(ids)).abs().max() > 0.01

    @pytest.mark.parametrize("layer", range(L))
    def test_positions_before_it_are_not_influenced(self, model, ids, other, layer):
        received = inputs_of([model.eval().blocks[layer]], model, other)[0]
        with torch.no_grad():
            expected = model(ids)
            with patch_activations(model, layer, received, [5]):
                found = model(ids)
        assert_close(found[:, :5], expected[:, :5])
        assert ((found - expected)[:, 5:].abs().amax((0, 2)) > 1e-4).all()

    def test_zeros_for_a_head_are_zero_ablation(self, model, ids):
        model.eval()
        with torch.no_grad():
            with ablate_heads(model, [(1, 2)]):
                expected = model(ids)
            with patch_activations(model, 1, torch.zeros(C), head=2):
                assert_close(model(ids), expected, rtol=0, atol=0)

    def test_hooks_are_gone_after_an_error(self, model):
        with (
            pytest.raises(RuntimeError, match="mine"),
            patch_activations(model, 0, torch.zeros(C)),
        ):
            raise RuntimeError("mine")
        assert hooks_in(model) == 0

    @pytest.mark.parametrize(
        "bad, wanted",
        [
            (dict(layer=L), "layer is 3, expected 0 to 2"),
            (dict(layer=-1), "layer is -1"),
            (dict(head=H), "head is 4, expected 0 to 3"),
            (dict(positions=[T]), "a position is 9, expected 0 to 8"),
            (dict(positions=[-1]), "a position is -1"),
            (dict(positions=[6]), r"a position to patch is 6, expected 0 to 5"),
            (dict(values=torch.zeros(C + 1)), r"shape \(21,\), expected"),
            (dict(values=torch.zeros(5, C)), r"shape \(5, 20\), expected \(2, 6, 20\)"),
        ],
    )
    def test_what_does_not_fit(self, model, ids, bad, wanted):
        given = dict(layer=0, values=torch.zeros(C)) | bad
        with pytest.raises(ValueError, match=wanted), patch_activations(model, **given):
            model(ids[:, :6])
        assert hooks_in(model) == 0


class TestLogitAttribution:
    right, wrong = torch.tensor([3, 11]), torch.tensor([7, 0])

    def difference(self, model: GPT2Model, ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits = deepcopy(model).eval()(ids)[:, -1]
        return (
            logits.gather(1, self.right[:, None])
            - logits.gather(1, self.wrong[:, None])
        )[:, 0]

    def test_contributions_sum_to_the_logit_difference(self, model, ids):
        parts = logit_attribution(model, ids, self.right, self.wrong)
        assert len(parts) == 2 + L * (H + 1) and model.training
        assert_close(
            sum(parts.values()), self.difference(model, ids), rtol=1e-4, atol=1e-4
        )

    def test_contributions_sum_in_an_ablated_model_too(self, model, ids):
        with ablate_heads(model, [(1, 2)]):
            parts = logit_attribution(model, ids, self.right, self.wrong)
        assert_close(parts["L1H2"], torch.zeros(2))
        with torch.no_grad(), ablate_heads(model.eval(), [(1, 2)]):
            logits = model(ids)[:, -1]
        rows = torch.arange(2)
        assert_close(
            sum(parts.values()),
            logits[rows, self.right] - logits[rows, self.wrong],
            rtol=1e-4,
            atol=1e-4,
        )

    def test_each_part_is_the_part_it_is_named_after(self, model, ids):
        """With all other parts at 0, a part alone makes the whole difference."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("blocks") and not name.startswith("blocks.2.attn"):
                    parameter.zero_()
            model.tok_emb.weight[ids] = 0
            model.pos_emb.weight.zero_()
            model.blocks[2].ln_attn.bias.normal_()
            model.blocks[2].ln_attn.weight.fill_(1)
            model.blocks[2].attn.out_proj.bias.zero_()
            model.blocks[2].attn.out_proj.weight[:, : 3 * D] = 0
            model.ln_final.bias.zero_()
        right, wrong = (
            torch.tensor([i for i in range(V) if i not in ids][n]).repeat(2)
            for n in (0, 1)
        )
        parts = logit_attribution(model, ids, right, wrong)
        assert {name for name, x in parts.items() if x.abs().max() > 1e-5} == {"L2H3"}

    @pytest.mark.parametrize(
        "right, kind, wanted",
        [
            (torch.tensor([3]), ValueError, r"right has the shape \(1,\)"),
            (torch.tensor([3, V]), ValueError, "in right is 17, expected 0 to 16"),
            (torch.tensor([3, -1]), ValueError, "is -1"),
            (torch.tensor([3.0, 1.0]), TypeError, "right is torch.float32"),
            ([3, 1], TypeError, "right is of type list"),
        ],
    )
    def test_tokens_that_do_not_fit(self, model, ids, right, kind, wanted):
        with pytest.raises(kind, match=wanted):
            logit_attribution(model, ids, right, self.wrong)


class TestInductionScore:
    def test_by_hand(self):
        maps = torch.zeros(2, 5, 5)
        maps[0, 3, 1], maps[0, 4, 2] = 0.5, 0.9  # A B C A B, period 3
        maps[1, 3, 0], maps[1, 2, 0] = 1.0, 1.0  # at the twin itself; too early
        assert_close(induction_score(maps, 3), torch.tensor([0.7, 0.0]))

    def test_even_rows(self):
        even = torch.ones(6, 6).tril() / torch.arange(1, 7)[:, None]
        assert_close(induction_score(even, 3), torch.tensor(37 / 180))

    def test_equals_a_loop(self):
        maps = torch.rand(2, 3, 12, 12)
        for period in (1, 2, 5, 11):
            picked = [maps[..., t, t - period + 1] for t in range(period, 12)]
            assert_close(induction_score(maps, period), torch.stack(picked).mean(0))

    @pytest.mark.parametrize("period", [0, -1, 12, 13])
    def test_a_period_that_does_not_fit(self, period):
        with pytest.raises(ValueError, match="expected 1 to 11"):
            induction_score(torch.rand(12, 12), period)
