"""A third architecture, as another package would add it: the mean of a text's token vectors, and a class for each."""

from dataclasses import dataclass

from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoProcessor,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_fusion.architectures.encoders import encoder_and_tokenizer
from hf_fusion.architectures.reviews import ReviewArchitecture, encode_reviews
from hf_fusion.models.configuration_common import FusionConfigMixin, Head, settle_labels
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor
from hf_fusion.utils.fields import option


class ToyConfig(FusionConfigMixin, PretrainedConfig):
    """
    Args:
        vocab_size (`int`, *optional*, defaults to 100):
            Number of tokens.
        toy_width (`int`, *optional*, defaults to 8):
            Width of a token's vector.
    """

    model_type = "toy"
    heads = {"logits": Head("fine", "id2label")}

    def __init__(self, vocab_size: int = 100, toy_width: int = 8, **kwargs):
        self.vocab_size, self.toy_width = vocab_size, toy_width
        settle_labels(kwargs, (), 2)
        super().__init__(**kwargs)

    def check(self):
        """Accepts everything."""


class ToyForSequenceClassification(PreTrainedModel):
    config_class = ToyConfig
    base_model_prefix = "toy"

    def __init__(self, config):
        super().__init__(config)
        self.toy = nn.EmbeddingBag(config.vocab_size, config.toy_width, mode="sum")
        self.classifier = nn.Linear(config.toy_width, config.num_labels)
        self.post_init()

    def _init_weights(self, module):
        nn.init.normal_(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)

    def forward(self, input_ids, attention_mask, labels=None, **_):
        mask = attention_mask.to(self.toy.weight.dtype)
        states = self.toy(input_ids, per_sample_weights=mask) / mask.sum(1, keepdim=True)  # (batch, width)
        logits = self.classifier(states)  # (batch, classes)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


@dataclass
class ToyFields:
    toy_tokenizer: str = option("The tokenizer to train: bpe, unigram or wordpiece.", "wordpiece")


class ToyArchitecture(ReviewArchitecture):
    config_class = ToyConfig
    recipe_fields = ToyFields
    settled_fields = ("vocab_size",)
    main_metrics = ("fine_accuracy",)

    def build(self, model_args, data_args, train, teacher=None):
        spec = {"model_type": "bert", "tokenizer": model_args.toy_tokenizer, "vocab_size": 200}
        _, tokenizer = encoder_and_tokenizer("toy", spec, model_args.max_length, 64, train["text"])
        fields = {"num_labels": data_args.rules().num_labels, **model_args.config_fields()}
        model = ToyForSequenceClassification(ToyConfig(vocab_size=len(tokenizer), **fields))
        return model, DyFuLMProcessor(tokenizer, max_length=64)

    def encode(self, rows, processor, long_texts="cut"):
        return encode_reviews(rows, processor, long_texts).remove_columns(["coarse_labels", "intensity_labels"])

    def diagnose(self, classify, rows, folder, batch_size, checkpoint, data_args):
        return []


AutoConfig.register("toy", ToyConfig, exist_ok=True)
AutoModelForSequenceClassification.register(ToyConfig, ToyForSequenceClassification, exist_ok=True)
AutoProcessor.register(ToyConfig, DyFuLMProcessor, exist_ok=True)
