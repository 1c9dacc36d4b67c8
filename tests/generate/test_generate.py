import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, MistralForCausalLM

from tunesmith.errors import DataError
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions
from tunesmith.testing.tiny import PAD, tiny_model

RAGGED = (3, 17, 1, 40, 9, 9, 28, 5)


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=1)


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (n,), generator=generator).tolist() for n in RAGGED]


def oracle(model, prompt, max_new_tokens, stop_ids=frozenset()):
    """transformers' own greedy answer to one prompt alone, without the stop token."""
    ids = torch.tensor([prompt], device=model.device)
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(stop_ids) or [-1],
        pad_token_id=PAD,
    )
    answer = out[0, len(prompt) :].tolist()
    return answer[:-1] if answer and answer[-1] in stop_ids else answer


def options(max_new_tokens=24, stop_ids=frozenset(), **values):
    return GenerateOptions(max_new_tokens, frozenset(stop_ids), PAD, **values)


def frequent_tokens(answers, count):
    """Tokens that some answers hold and others do not: stopping there ends rows at odd times."""
    seen = [set(answer) for answer in answers]
    shared = {t: sum(t in s for s in seen) for t in set().union(*seen)}
    some = sorted((t for t, n in shared.items() if n < len(seen)), key=lambda t: (-shared[t], t))
    return frozenset(some[:count])


@pytest.mark.parametrize("batch_rows", [1, 3, 32])
@pytest.mark.parametrize("num_stops", [0, 1, 3])
def test_same_tokens_as_transformers(model, prompts, batch_rows, num_stops):
    free = [oracle(model, prompt, 24) for prompt in prompts]
    stops = frequent_tokens(free, num_stops)
    expected = [oracle(model, prompt, 24, stops) for prompt in prompts]
    if num_stops:
        assert len({len(answer) for answer in expected}) > 1
    assert generate(model, prompts, options(24, stops, batch_rows=batch_rows)) == expected


@pytest.mark.parametrize("max_new_tokens", [1, 2, 7])
def test_answers_are_cut_at_max_new_tokens(model, prompts, max_new_tokens):
    expected = [oracle(model, prompt, max_new_tokens) for prompt in prompts]
    assert generate(model, prompts, options(max_new_tokens)) == expected
    assert {len(answer) for answer in expected} == {max_new_tokens}


def test_long_answers(model, prompts):
    expected = [oracle(model, prompt, 150) for prompt in prompts[:3]]
    assert generate(model, prompts[:3], options(150)) == expected


def test_padding_may_be_a_stop_token(model, prompts):
    free = generate(model, prompts, options())
    stop = next(iter(frequent_tokens(free, 1)))
    expected = [oracle(model, prompt, 24, {stop}) for prompt in prompts]
    assert generate(model, prompts, GenerateOptions(24, frozenset({stop}), pad_id=stop)) == expected


def test_an_answer_may_be_empty_and_its_stop_token_kept(model, prompts):
    first = oracle(model, prompts[0], 1)[0]
    assert generate(model, prompts[:1], options(5, {first})) == [[]]
    assert generate(model, prompts[:1], options(5, {first}, keep_stop=True)) == [[first]]


def test_keep_stop_adds_the_stop_token_and_nothing_else(model, prompts):
    stops = frequent_tokens(generate(model, prompts, options()), 3)
    without = generate(model, prompts, options(24, stops))
    kept = generate(model, prompts, options(24, stops, keep_stop=True))
    for answer, longer in zip(without, kept, strict=True):
        assert longer[: len(answer)] == answer
        assert len(answer) == 24 if longer == answer else longer[len(answer) :][0] in stops


def test_a_sliding_window_model_gives_the_tokens_of_transformers(prompts):
    config = MistralConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    sliding = MistralForCausalLM(config).eval()
    free = [oracle(sliding, prompt, 20) for prompt in prompts]
    stops = frequent_tokens(free, 1)
    expected = [oracle(sliding, prompt, 20, stops) for prompt in prompts]
    assert generate(sliding, prompts, options(20, stops)) == expected


def test_a_peft_model_answers_with_its_adapter(prompts):
    base = tiny_model(seed=1)
    plain = generate(base, prompts, options())
    torch.manual_seed(0)
    wrapped = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False)).eval()
    adapted = generate(wrapped, prompts, options())
    assert adapted == [oracle(wrapped, prompt, 24) for prompt in prompts]
    assert adapted != plain


def test_modes_gradients_and_dropout_are_as_before(prompts):
    model = tiny_model(seed=1, attention_dropout=0.5)
    expected = generate(model, prompts, options())
    model.train()
    model.model.layers[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    assert generate(model, prompts, options()) == expected
    assert {name: module.training for name, module in model.named_modules()} == before
    model(input_ids=torch.tensor([prompts[0]])).logits.sum().backward()
    assert model.lm_head.weight.grad.abs().sum() > 0


def test_modes_are_put_back_after_an_error(model):
    broken = tiny_model(seed=1).train()
    with pytest.raises(IndexError):
        generate(broken, [[100_000]], options())
    assert broken.training


def test_no_prompts_no_answers(model):
    assert generate(model, [], options()) == []


def test_the_answer_ends_where_the_positions_end(model):
    prompt = [65] * 510
    assert len(generate(model, [prompt, [66] * 3], options(24))[0]) == 2
    assert len(generate(model, [prompt, [66] * 3], options(24))[1]) == 24


@pytest.mark.parametrize("length", [512, 600])
def test_a_prompt_without_room_for_an_answer_is_refused(model, length):
    with pytest.raises(DataError, match=rf"prompt 2: got {length} tokens; expected at most 511"):
        generate(model, [[1], [65] * length], options())


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(DataError, match="prompt 1: got no tokens; expected at least one"):
        generate(model, [[]], options())


@pytest.mark.parametrize("values", [{"max_new_tokens": 0}, {"batch_rows": 0}])
def test_options_that_ask_for_nothing_are_refused(values):
    with pytest.raises(ValueError, match="expected at least 1"):
        options(**values)


@pytest.mark.slow
def test_the_starter_answers_as_transformers_does(starter):
    model = AutoModelForCausalLM.from_pretrained(starter, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(starter)
    asked = [
        "What is the capital of France?",
        "Say hello.",
        "List three colours, and for each of them one fruit that has this colour.",
    ]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in asked
    ]
    stops = frozenset({tokenizer.eos_token_id})
    expected = [oracle(model, prompt, 24, stops) for prompt in prompts]
    got = generate(model, prompts, GenerateOptions(24, stops, tokenizer.pad_token_id))
    assert got == expected
    assert "Paris" in tokenizer.decode(got[0])
