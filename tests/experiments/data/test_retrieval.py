"""The retriever can be solved by hand, its heads can be tied, and its bound is a count."""

import pytest
import torch

from qa_lab.experiments.data.retrieval import (
    PLACES,
    PlaceKeys,
    Retriever,
    ceiling,
    heads_of,
    make_heads_equal,
    shake_apart,
    train_retrieval,
)
from tests.comparing import assert_differs, assert_identical, assert_same, moved


@pytest.fixture
def retriever():
    torch.manual_seed(0)
    return Retriever(2, 3, content=5, d_model=22, n_queries=7)


def contents(lists=11):
    return torch.randn(lists, PLACES, 5, generator=torch.Generator().manual_seed(1))


def test_a_head_set_by_hand_returns_what_is_stored_at_its_place():
    model = Retriever(1, 1, content=5, d_model=22)
    with torch.no_grad():
        for layer in (model.attention.W_K, model.attention.W_V, model.attention.W_O):
            layer.weight.copy_(torch.eye(22))
            layer.bias.zero_()
        model.attention.W_Q.weight.copy_(torch.eye(22))
        model.query.zero_()[0, 5 + 3] = 1000.0  # place 3
        model.read_out.weight.copy_(torch.eye(22)[:5])
        model.read_out.bias.zero_()
    asked = contents()
    assert_same(model(asked)[:, 0], asked[:, 3])
    assert_same(model.weights(asked)[:, 0, 0, 3], torch.ones(11))


def test_patterns_depend_on_the_content_only_if_keys_may_see_it(retriever):
    assert_same(*retriever.weights(contents(2)))
    torch.manual_seed(0)
    seeing = Retriever(2, 3, content=5, d_model=22, keys_see_content=True)
    assert_differs(*seeing.weights(contents(2)))


def test_place_keys_are_the_projection_with_the_content_taken_out():
    layer = torch.nn.Linear(22, 13)
    x = torch.randn(7, 22)
    hidden = x.clone()
    hidden[:, :5] = 0
    assert_same(PlaceKeys(5, layer)(x), layer(hidden))
    assert_differs(layer(x), layer(hidden))


def test_each_part_belongs_to_one_head(retriever):
    before = retriever.weights(contents())
    with torch.no_grad():
        for part in heads_of(retriever.attention)[:4]:  # W_Q and W_K
            part[1].add_(1.0)
    after = retriever.weights(contents())
    assert_identical(moved(before, after, axis=(0, 2, 3)), torch.tensor([False, True]))


def test_equal_heads_are_equal_and_shaken_ones_are_not(retriever):
    means = [part.mean(dim=0) for part in heads_of(retriever.attention)]
    make_heads_equal(retriever.attention)
    for part, mean in zip(heads_of(retriever.attention), means, strict=True):
        assert_identical(part[0], part[1], because="both are copies of the mean")
        assert_same(part[0], mean)
    shake_apart(retriever.attention, 1e-3, torch.Generator().manual_seed(2))
    for part in heads_of(retriever.attention):
        assert 1e-4 < (part[0] - part[1]).abs().max() < 1e-2


@pytest.mark.parametrize("n_heads, n_targets", [(1, 1), (1, 3), (2, 3), (4, 3)])
def test_training_reaches_the_ceiling_and_no_more(n_heads, n_targets):
    found = train_retrieval(0, n_heads=n_heads, n_targets=n_targets)
    assert abs(found.r_squared - ceiling(n_heads, n_targets)) < 0.03
    assert found.weights.shape == (n_heads, 1, PLACES)
    if n_heads == n_targets == 1:
        assert found.weights.argmax() == found.targets.item()


def test_tied_heads_stay_equal_and_shaken_heads_do_not():
    tied = train_retrieval(0, n_heads=2, n_targets=2, tie_heads=True)
    for part in heads_of(tied.model.attention):
        assert_identical(*part, because="both are copies of the mean")
    assert abs(tied.r_squared - 0.5) < 0.03
    shaken = train_retrieval(0, n_heads=2, n_targets=2, shake=1e-2)
    assert shaken.r_squared > 0.9


def test_a_second_layer_asks_with_what_the_first_found():
    assert train_retrieval(0, n_heads=1, n_targets=2, n_layers=2).r_squared > 0.97
    torch.manual_seed(0)
    model = Retriever(2, 3, content=5, d_model=22, n_layers=2)
    seen = []
    model.attentions[1].W_Q.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    answers = model.attention(model.query.expand(2, -1, -1), model.memory(contents(2)))
    model(contents(2))
    assert_same(seen[0], model.query + answers)
    assert_differs(seen[0], model.query.expand(2, -1, -1))


def test_heads_may_share_keys_and_have_a_width_of_their_own():
    attention = train_retrieval(
        0, n_heads=4, n_targets=2, n_kv_heads=2, d_k=3, steps=1
    ).model.attention
    assert [p.out_features for p in (attention.W_Q, attention.W_K, attention.W_V)] == [12, 6, 6]
    assert attention.W_O.in_features == 12
    plain = train_retrieval(0, n_heads=4, n_targets=2, steps=1).losses
    same = train_retrieval(0, n_heads=4, n_targets=2, n_kv_heads=4, d_k=8, steps=1).losses
    assert_same(same, plain, within=1e-5)


def test_few_lists_are_the_same_at_every_step():
    few = train_retrieval(0, n_heads=1, n_targets=12, n_lists=2)
    assert few.losses[-1] < 0.05  # two lists can be learned by heart
    assert few.r_squared < 0.2


def test_training_repeats_and_is_done_once():
    few = {"n_heads": 2, "n_targets": 2, "steps": 3}
    once = train_retrieval(0, **few)
    assert train_retrieval(0, **few) is once
    train_retrieval.cache_clear()
    assert_same(train_retrieval(0, **few).losses, once.losses, within=1e-5)
    assert_differs(train_retrieval(1, **few).losses, once.losses)


def test_targets_are_different_places_for_every_query():
    targets = train_retrieval(0, n_heads=2, n_targets=12, n_queries=3, steps=1).targets
    assert targets.shape == (3, 12)
    assert all(sorted(row) == list(range(PLACES)) for row in targets.tolist())
    assert_differs(targets[0], targets[1])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="13 different places"):
        train_retrieval(0, n_heads=1, n_targets=13)
    with pytest.raises(ValueError, match="room"):
        Retriever(1, 1, content=5, d_model=16)
    with pytest.raises(ValueError, match="n_layers must be 1 or more"):
        Retriever(1, 1, n_layers=0)
    with pytest.raises(ValueError, match="n_lists must be 1 or more"):
        train_retrieval(0, n_heads=1, n_targets=1, n_lists=0)
    with pytest.raises(ValueError, match="tied"):
        train_retrieval(0, n_heads=2, n_targets=2, tie_heads=True, shake=1e-3)
    with pytest.raises(ValueError, match="share keys and values"):
        train_retrieval(0, n_heads=2, n_targets=2, n_kv_heads=1, shake=1e-3)
