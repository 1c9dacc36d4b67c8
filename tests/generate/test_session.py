import pytest
import torch

from tunesmith.generate import cache, detect
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions
from tunesmith.generate.session import PROMPT_TOKENS, Prompt, Session
from tunesmith.testing.tiny import tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=1)


@pytest.fixture
def widths(model):
    """Tokens that the model reads in each step."""
    generate(model, [[1]], GenerateOptions(1, frozenset(), 0))  # The trial is over after this.
    seen = []
    hook = model.model.embed_tokens.register_forward_hook(
        lambda module, args, output: seen.append(output.shape[1])
    )
    yield seen
    hook.remove()


def full(model, ids):
    """Logits after `ids`, by one pass over all of them."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


def test_logits_are_those_of_full_passes(model):
    session = Session(model, 3)
    a, b, c = [5, 6, 7, 8], [9], [200, 100, 50]
    first = session.step([], [Prompt(a), Prompt(b)])
    torch.testing.assert_close(first, torch.stack([full(model, a), full(model, b)]))
    joined = session.step([1, 2], [Prompt(c)])
    texts = [[*a, 1], [*b, 2], c]
    torch.testing.assert_close(joined, torch.stack([full(model, text) for text in texts]))
    session.keep([2, 1])
    last = session.step([3, 4])
    texts = [[*c, 3], [*b, 2, 4]]
    torch.testing.assert_close(last, torch.stack([full(model, text) for text in texts]))


def test_a_place_that_was_used_before_shows_nothing_of_it(model):
    session = Session(model, 1)
    session.step([], [Prompt(list(range(40)))])
    session.keep([])
    again = session.step([], [Prompt([9, 8])])
    torch.testing.assert_close(again, full(model, [9, 8])[None])
    torch.testing.assert_close(session.step([7]), full(model, [9, 8, 7])[None])


def test_a_cache_that_grows_keeps_what_it_has(model, monkeypatch):
    monkeypatch.setattr(cache, "SMALL", 2)
    session = Session(model, 2)
    session.step([], [Prompt([1]), Prompt([2, 3])])
    texts = [[1], [2, 3]]
    capacities = {session.cache.capacity}
    for token in range(10, 30):
        logits = session.step([token, token + 1])
        texts = [[*texts[0], token], [*texts[1], token + 1]]
        capacities.add(session.cache.capacity)
    torch.testing.assert_close(logits, torch.stack([full(model, text) for text in texts]))
    assert 2 < len(capacities) < 8


def test_no_more_room_than_the_longest_row_needs(model):
    session = Session(model, 2, longest=21)
    session.step([], [Prompt([1] * 20)])
    assert session.cache.capacity == 21


def test_copies_of_a_prompt_are_computed_once(model, widths):
    session = Session(model, 4)
    logits = session.step([], [Prompt([5, 6, 7], copies=3), Prompt([8])])
    expected = torch.stack([full(model, [5, 6, 7])] * 3 + [full(model, [8])])
    torch.testing.assert_close(logits, expected)
    assert widths[0] == 4
    logits = session.step([1, 2, 3, 4])
    texts = [[5, 6, 7, 1], [5, 6, 7, 2], [5, 6, 7, 3], [8, 4]]
    torch.testing.assert_close(logits, torch.stack([full(model, text) for text in texts]))


def test_a_shared_prefix_is_computed_once(model, widths):
    prefix = [11, 12, 13, 14, 15]
    session = Session(model, 3, prefix=prefix)
    a, b = [*prefix, 1], [*prefix, 2, 3]
    logits = session.step([], [Prompt(a, copies=2), Prompt(b)])
    assert widths == [5, 3]
    expected = torch.stack([full(model, text) for text in (a, a, b)])
    torch.testing.assert_close(logits, expected)
    session.keep([2, 1])
    widths.clear()
    logits = session.step([7, 8], [Prompt([*prefix, 9])])
    assert widths == [3]
    texts = [[*b, 7], [*a, 8], [*prefix, 9]]
    torch.testing.assert_close(logits, torch.stack([full(model, text) for text in texts]))


@pytest.mark.parametrize(("count", "shared"), [(2, 40), (5, 40), (5, 20)])
def test_a_prefix_is_shared_where_that_saves_enough(model, widths, count, shared):
    prompts = [[7] * shared + [i + 1] * (i + 1) for i in range(count)]
    got = generate(model, prompts, GenerateOptions(3, frozenset(), 0))
    saves = shared * (count - 1) >= detect.WORTH
    assert saves == (count == 5 and shared == 40)
    assert (widths[0] == shared) == saves
    first = [shared] if saves else []
    once = sum(map(len, prompts)) - len(first) * shared * count
    assert widths == [*first, once, count, count]
    alone = [generate(model, [prompt], GenerateOptions(3, frozenset(), 0))[0] for prompt in prompts]
    assert got == alone


def test_the_same_prompt_again_and_again(model, widths):
    prompts = [list(range(50))] * 4
    got = generate(model, prompts, GenerateOptions(2, frozenset(), 0))
    assert widths == [49, 4, 4]
    assert got == [generate(model, prompts[:1], GenerateOptions(2, frozenset(), 0))[0]] * 4


def test_no_token_is_computed_twice_or_in_vain(model, widths):
    prompts = [[i + 1] * n for i, n in enumerate((3, 30, 1, 12, 7, 7, 20))]
    free = generate(model, prompts, GenerateOptions(12, frozenset(), 0))
    stops = frozenset({free[0][3], free[2][6]})
    widths.clear()
    got = generate(model, prompts, GenerateOptions(12, stops, 0, batch_rows=3, keep_stop=True))
    assert len({len(answer) for answer in got}) > 1
    # Every token of a prompt, and every token of an answer but its last.
    assert sum(widths) == sum(map(len, prompts)) + sum(len(answer) - 1 for answer in got)


def test_a_place_is_taken_in_the_step_after_it_is_free(model, widths):
    prompts = [[1] * 5, [2] * 4, [3] * 3]
    generate(model, prompts, GenerateOptions(2, frozenset(), 0, batch_rows=2))
    assert widths == [9, 2, 3, 1]


def test_many_prompts_do_not_all_join_at_once(model, widths):
    prompts = [[i] * 400 for i in range(4)]
    generate(model, prompts, GenerateOptions(1, frozenset(), 0))
    assert widths == [800, 800]
    assert 2 * 400 <= PROMPT_TOKENS < 3 * 400


def test_gradients_can_be_had_of_what_a_step_left_behind(model):
    """What a model keeps while it generates must not be closed to training."""
    kept = []
    hook = model.model.norm.register_forward_hook(lambda m, a, output: kept.append(output))
    Session(model, 1).step([], [Prompt([1, 2])])
    hook.remove()
    (kept[0] * torch.ones((), requires_grad=True)).sum().backward()
