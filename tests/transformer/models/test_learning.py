"""That it learns: the whole encoder-decoder on a task that needs all of it."""

import torch

from qa_lab.experiments.data import tasks
from qa_lab.experiments.fit import fit
from qa_lab.transformer.decoding import TranslationReader, generate
from qa_lab.transformer.models import Transformer
from qa_lab.transformer.training import cross_entropy


def loss(model, batch):
    logits = model(batch.source, batch.target[:, :-1], batch.source_real, batch.target_real[:, :-1])
    return cross_entropy(logits, batch.target[:, 1:], batch.target_real[:, 1:])


def rows(ids):
    return [tuple(row) for row in ids.tolist()]


def test_the_transformer_learns_to_reverse_ragged_sequences():
    """Token by token, on unseen sources; an answer is right as a whole, its end included."""
    torch.set_default_dtype(torch.float32)
    seen = set()

    def make_batch(rng, batch=64):
        return tasks.reverse(rng, batch=batch, n_symbols=7, lengths=range(3, 7))

    def training_batch(rng):
        batch = make_batch(rng)
        seen.update(rows(batch.source))
        return batch

    model = Transformer(tasks.vocab_size(7), 32, 4, 64, 1)
    fit(model, loss, training_batch, steps=900, lr=3e-3, seed=0, warmup=60, clip=1.0)

    batch = make_batch(tasks.generator(1), batch=607)
    new = torch.tensor([row not in seen for row in rows(batch.source)])
    assert new.sum() > 200
    answers = generate(
        TranslationReader(model, batch.source[new], batch.source_real[new]),
        torch.full((int(new.sum()), 1), tasks.START),
        end_id=tasks.END,
        pad_id=tasks.PAD,
        max_new_tokens=batch.target.shape[1] - 1,
    )
    exact = (answers == batch.target[new, 1:]).all(dim=1).double().mean().item()
    assert exact >= 0.9
