"""The model as losses and measures see it: batches in, numbers at the trained tokens out.

One place decides between the fast paths and those of transformers, so that methods, probes and
held-out loss all compute the same thing.

Legend: N trained tokens, R rows, V vocabulary, D width of the model, C scores of a sequence.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.models import attention, head, narrow, soft
from tunesmith.models.batch import Batch
from tunesmith.models.noise import disturbed
from tunesmith.models.pooling import POOLED
from tunesmith.models.shared_prefix import require_no_dropout, unshared
from tunesmith.models.soft import Laid


class Policy:
    """A model with its compute paths.

    Args:
        model: The transformers model that is trained; adapters sit inside its layers.
        kernels: "fast" or "reference".
        precision: Type that matrix products run in.
        noise: Size of the noise on embeddings in training (NEFTune's alpha); None for none.
        language: The causal language model over the same decoder, where `model` ends in another
            head; None where it is that itself. Without one there is no loss of tokens.

    Attributes:
        companion: What a method trains beside the model, such as a value head; None for most.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        kernels: str,
        precision: torch.dtype,
        noise: float | None = None,
        language: PreTrainedModel | None = None,
    ) -> None:
        attention.register()
        self.model = model
        self.language = model if language is None else language
        self.kernels = kernels
        self.precision = precision
        self.noise = noise
        self.companion: nn.Module | None = None
        self._mixed = narrow.narrowest(self.language) is not None
        self.plain_head = False
        if self.language.get_output_embeddings() is not None:
            with soft.off(self.model), narrow.computing(self.language):
                self.plain_head = _head_is_plain(self.language)

    @property
    def fast_head(self) -> bool:
        """Whether the loss is made without ever holding all logits."""
        return self.kernels == "fast" and self.plain_head

    @property
    def head(self) -> Tensor:
        """(V, D) weight of the language-model head."""
        return self.language.get_output_embeddings().weight

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.model.device

    def loss_sum(self, batch: Batch) -> Tensor:
        """Sum of the loss over the trained tokens of `batch`, () float32 in nats."""
        return self.losses(batch)[0]

    def losses(
        self, batch: Batch, factors_N: Tensor | None = None, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of the losses of the trained tokens, and each of them, in nats.

        Args:
            batch: N trained tokens.
            factors_N: (N,) float32 factor of each loss; None for 1.
            smoothing: Share of each target that is spread over the vocabulary.

        Returns:
            () float32, differentiable; and (N,) float32, without gradient and without factors.
        """
        with self._autocast():
            if self.fast_head:
                hidden, targets = self._hidden(batch), batch.targets
                return head.losses(hidden, self.head, targets, factors_N, smoothing)
            logits = self._logits(batch).float()
        each = F.cross_entropy(logits, batch.targets, reduction="none", label_smoothing=smoothing)
        total = each.sum() if factors_N is None else each @ factors_N
        return total, each.detach()

    def token_nll(self, batch: Batch, temperature: float = 1.0) -> Tensor:
        """-log p of each trained token, (N,) float32 in nats; differentiable.

        Args:
            batch: R rows with N trained tokens in all.
            temperature: Logits are divided by it.
        """
        with self._autocast():
            if self.fast_head:
                return self._nll_of(self._hidden(batch), batch, temperature)
            logits = self._logits(batch)
        return F.cross_entropy(logits.float() / temperature, batch.targets, reduction="none")

    def nll_and_states(self, batch: Batch, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """`token_nll`, and (N, D) float32 the hidden state that each token is predicted from."""
        with self._autocast():
            if self.fast_head:
                hidden = self._hidden(batch)
                return self._nll_of(hidden, batch, temperature), hidden.float()
            laid = self._laid(batch)
            out = self._forward(self.model, laid, output_hidden_states=True)
            logits, hidden = (
                each.flatten(0, 1).index_select(0, laid.batch.places)
                for each in (out.logits, out.hidden_states[-1])
            )
        nll = F.cross_entropy(logits.float() / temperature, batch.targets, reduction="none")
        return nll, hidden.float()

    def _nll_of(self, hidden_ND: Tensor, batch: Batch, temperature: float) -> Tensor:
        if temperature != 1.0:
            hidden_ND = hidden_ND / temperature  # The head is one product: so are the logits.
        return head.token_nll(hidden_ND, self.head, batch.targets)

    def sequence_log_probs(self, batch: Batch) -> Tensor:
        """Log-probability of the trained tokens of each row, (R,) float32 in nats; differentiable.

        Zero for a row that trains nothing.
        """
        nll_by_row = self.token_nll(batch).split(batch.targets_per_row)
        return -torch.stack([nll.sum() for nll in nll_by_row])

    def log_probs_at(self, batch: Batch, ids_NK: Tensor, temperature: float = 1.0) -> Tensor:
        """Log p of some tokens in the place of each trained one, (N, K) float32; differentiable.

        Args:
            batch: With N trained tokens in all.
            ids_NK: (N, K) int64 token ids, those of one place all different.
            temperature: Logits are divided by it.
        """
        with self._autocast():
            if self.fast_head:
                hidden_ND = (
                    self._hidden(batch) / temperature
                )  # The head is a product: so are logits.
                return head.log_probs_at(hidden_ND, self.head, ids_NK)
            logits = self._logits(batch)
        return torch.log_softmax(logits.float() / temperature, -1).gather(1, ids_NK)

    @torch.no_grad()
    def most_likely(self, batch: Batch, k: int, temperature: float) -> tuple[Tensor, Tensor]:
        """The k tokens, at most V, that are most likely in the place of each trained one.

        Returns:
            (N, k) int64 ids and (N, k) float32 log-probabilities, most likely first.
        """
        features = self.features(batch)
        found = []
        for part in features.split(head.CHUNK):
            scaled = part if not self.plain_head else part / temperature
            log_probs = self.log_probs_of(scaled)
            if not self.plain_head:
                log_probs = torch.log_softmax(log_probs / temperature, -1)
            found.append(log_probs.topk(k))
        log_probs_Nk, ids_Nk = (torch.cat(parts) for parts in zip(*found, strict=True))
        return ids_Nk, log_probs_Nk

    @torch.no_grad()
    def features(self, batch: Batch) -> Tensor:
        """What `log_probs_of` needs for each trained token: the hidden state before it (N, D).

        A model whose head is more than one product gives its log-probabilities (N, V) instead.
        """
        return self.states(batch)

    def states(self, batch: Batch) -> Tensor:
        """As `features`; differentiable."""
        with self._autocast():
            if self.plain_head:
                return self._hidden(batch)
            return torch.log_softmax(self._logits(batch).float(), -1)

    @torch.no_grad()
    def log_probs_of(self, features: Tensor, weight_VD: Tensor | None = None) -> Tensor:
        """(N, V) float32 log-probabilities; `weight_VD` stands in for the present head."""
        if not self.plain_head:
            return features
        weight = self.head if weight_VD is None else weight_VD
        return head.log_probabilities(features.to(self.precision), weight)

    def scores(self, batch: Batch) -> Tensor:
        """(R, C) float32 of a model that ends in scores, at the last token of each sequence."""
        return self.model.score(self.sequence_states(batch)).float()

    def sequence_states(self, batch: Batch, pooling: str = "last") -> Tensor:
        """(R, D) final hidden state of each sequence: of its last token, or the mean of all.

        Virtual tokens before a sequence are none of its own: the mean is without them.
        """
        if batch.prefixes is not None and pooling != "last":
            batch = unshared(batch)
        laid = self._laid(batch)
        with self._autocast():
            out = self._forward(self.language.get_decoder(), laid)
        states_TD = out.last_hidden_state.flatten(0, 1)
        if laid.kept is not None:
            states_TD = states_TD.index_select(0, laid.kept)
        return POOLED[pooling](states_TD, laid.rows)

    def _hidden(self, batch: Batch) -> Tensor:
        """(N, D) final hidden states from which the trained tokens are predicted."""
        laid = self._laid(batch)
        out = self._forward(self.language.get_decoder(), laid)
        return out.last_hidden_state.flatten(0, 1).index_select(0, laid.batch.places)

    def _logits(self, batch: Batch) -> Tensor:
        """(N, V)."""
        laid = self._laid(batch)
        out = self._forward(self.language, laid)
        return out.logits.flatten(0, 1).index_select(0, laid.batch.places)

    def _laid(self, batch: Batch) -> Laid:
        """The batch as it is computed, with the virtual tokens that the model reads before each."""
        batch = self._shared_or_not(batch)
        prompt = soft.of(self.model)
        if prompt is None:
            return Laid(batch, batch)
        return prompt.lay(batch, self.model, packs=self.kernels == "fast")

    def _shared_or_not(self, batch: Batch) -> Batch:
        """Transformers knows nothing of shared prefixes."""
        if batch.prefixes is None:
            return batch
        if self.kernels == "reference" or self._noisy:
            return unshared(batch)
        require_no_dropout(self.model)
        return batch

    def _forward(self, module: nn.Module, laid: Laid, **more: Any) -> Any:
        batch = laid.batch
        keywords = {**self._tokens(laid), **laid.keywords, "use_cache": False, **more}
        keywords["position_ids"] = batch.positions
        if not batch.packed:
            return module(**keywords, attention_mask=batch.attention_mask)
        if self.kernels == "reference":
            # transformers tells the examples of a pack apart by positions that restart.
            return module(**keywords)
        with attention.attention(self.model, attention.PACKED):
            return module(**keywords, lengths=batch.lengths, prefixes=batch.prefixes)

    def _tokens(self, laid: Laid) -> dict[str, Tensor]:
        """Ids, or where weights are wider than the precision, their embeddings in that precision.

        Autocast would leave the sums between the blocks in fp32, at twice the bytes.
        """
        narrow = self.kernels != "reference" and self._wider
        if not (narrow or self._noisy or laid.place):
            return {"input_ids": laid.rows.input_ids}
        embedded = self.model.get_input_embeddings()(laid.rows.input_ids)
        if self._noisy:
            embedded = disturbed(embedded, laid.rows, self.noise)
        embedded = embedded.to(self.precision) if narrow else embedded
        return {"inputs_embeds": embedded if laid.place is None else laid.place(embedded)}

    @property
    def _noisy(self) -> bool:
        """Whether embeddings get noise: only while the model is trained."""
        return self.noise is not None and self.model.training

    @property
    def _wider(self) -> bool:
        """Whether weights are wider than the precision: trained ones are fp32."""
        if self.precision is torch.float32:
            return False
        held = self.model.get_input_embeddings().weight.dtype
        return self._mixed or held is not self.precision

    def _autocast(self) -> Any:
        if not self._wider:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)


@torch.no_grad()
def _head_is_plain(model: PreTrainedModel) -> bool:
    """Whether logits are hidden times weight and nothing more.

    Some models cap or scale their logits, or have a bias or an adapter on the head; running both
    ways on a few tokens finds out without knowing any model's name.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        return False
    ids = torch.arange(8, device=head.weight.device)[None] % head.weight.shape[0]
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    expected = model(input_ids=ids, use_cache=False).logits.float()
    return torch.allclose(head.forward(hidden).float(), expected, rtol=1e-3, atol=1e-3)
