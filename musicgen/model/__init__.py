"""The attention LSTM: LSTM layers with causal attention cells, copy attention, and an output head."""

from musicgen.model.attention_lstm import AttentionLSTM as AttentionLSTM
from musicgen.model.attention_lstm import ModelConfig as ModelConfig
