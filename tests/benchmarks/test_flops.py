"""The count of operations, against the arithmetic of SmolLM2-135M done by hand."""

import json

import pytest

from benchmarks.flops import Shapes, operations, read_shapes, work

SMOLLM2 = {
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
}


@pytest.fixture
def smollm2(tmp_path) -> Shapes:
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    return read_shapes(tmp_path)


def test_the_weights_are_those_of_the_published_model(smollm2):
    # 30 x (2 x 576 x 576 + 2 x 192 x 576 + 3 x 576 x 1536)
    assert smollm2.layer_weights == 106_168_320
    # 49152 x 576
    assert smollm2.head_weights == 28_311_552


def test_lora_of_rank_16_has_5_million_weights(smollm2):
    # q, o: 576 + 576; k, v: 192 + 576; gate, up, down: 576 + 1536; times 16 and 30
    assert smollm2.lora_weights(16) == 30 * 16 * (2 * 1152 + 2 * 768 + 3 * 2112)


def test_attention_costs_35_kflop_a_token_and_position(smollm2):
    # 2 x 9 heads x 64 x 30 blocks
    assert smollm2.attention(1) == 34_560
    assert smollm2.attention(256) == 256 * 34_560


def test_lora_on_256_tokens_with_a_third_labelled_is_about_515_mflop_a_token(smollm2):
    per_token = operations(smollm2, [(1000, 300)], "lora", 16) / 1000
    without_attention = per_token - 3 * smollm2.attention(1000)
    # 4 x 106.17 + 0.3 x 4 x 28.31 + 6 x 4.88
    assert without_attention / 1e6 == pytest.approx(424.67 + 33.97 + 29.31, abs=0.1)
    at_256 = operations(smollm2, [(256, 77)], "lora", 16) / 256
    assert at_256 / 1e6 == pytest.approx(515, abs=1)


def test_full_fine_tuning_multiplies_each_weight_three_times(smollm2):
    found = operations(smollm2, [(10, 4)], "full", 16)
    by_hand = 10 * (6 * 106_168_320 + 3 * 10 * 34_560) + 4 * 6 * 28_311_552
    assert found == by_hand


def test_attention_is_counted_by_the_length_of_each_row(smollm2):
    short = operations(smollm2, [(100, 0)] * 2, "lora", 16)
    long = operations(smollm2, [(200, 0)], "lora", 16)
    assert long - short == 3 * 34_560 * (200 * 200 - 2 * 100 * 100)


def test_work_is_told_apart_by_the_matrices(smollm2):
    parts = work(smollm2, [(10, 4)], "lora", 16)
    assert parts.linears[576, 576] == 4 * 10 * 30 * 2 * 576 * 576  # q and o
    assert parts.linears[1536, 576] == 4 * 10 * 30 * 2 * 1536 * 576  # gate and up
    assert parts.head == 4 * 4 * 28_311_552
    assert parts.rest == 10 * 6 * smollm2.lora_weights(16) + 10 * 3 * 10 * 34_560


def test_a_base_may_say_the_size_of_its_heads(tmp_path):
    config = SMOLLM2 | {"head_dim": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shapes = read_shapes(tmp_path)
    assert shapes.linears[0] == (9 * 128, 576)
    assert shapes.linears[1] == (3 * 128, 576)
    assert shapes.attention_width == 9 * 128
