"""A small training framework with PyTorch's names and habits, on NumPy alone, with fastdrop's masks in its dropout.

    from fastdrop import nn, optim

    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(p=0.5), nn.Linear(256, 10))
    history = nn.fit(model, (X, y), epochs=3, optimizer=optim.SGD(model.parameters(), lr=0.1))

Read it upwards: `autograd` (the tape), `tensor`, `functional` and `losses`, `module`, `layers`,
`recurrent`, `train`.
"""

from __future__ import annotations

from fastdrop.nn import functional, init
from fastdrop.nn.activations import ELU, SELU, LeakyReLU, LogSoftmax, Sigmoid, SiLU, Softmax, Tanh
from fastdrop.nn.alpha import AlphaDropout, FeatureAlphaDropout
from fastdrop.nn.autograd import enable_grad, is_grad_enabled, no_grad
from fastdrop.nn.block import DropBlock1d, DropBlock2d, DropBlock3d
from fastdrop.nn.connections import DropConnectLinear, WeightDrop
from fastdrop.nn.creation import arange, from_numpy, ones, rand, randint, randn, tensor, zeros
from fastdrop.nn.dropout import Dropout, Dropout1d, Dropout2d, Dropout3d, DropPath, LockedDropout, TokenDropout
from fastdrop.nn.elementwise_losses import BCEWithLogitsLoss, HuberLoss, KLDivLoss, L1Loss, SmoothL1Loss
from fastdrop.nn.embedding import Embedding
from fastdrop.nn.functional import relu
from fastdrop.nn.fused import ActivationDropout, DropoutAdd
from fastdrop.nn.gaussian import GaussianDropout, GaussianNoise
from fastdrop.nn.gelu import GELU
from fastdrop.nn.layer_norm import LayerNorm
from fastdrop.nn.layers import (
    Conv2d,
    CrossEntropyLoss,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    MSELoss,
    NLLLoss,
    ReLU,
)
from fastdrop.nn.mc import MCPrediction, mc_dropout, mc_predict
from fastdrop.nn.module import Module, ModuleList, Parameter, Sequential
from fastdrop.nn.multihead import MultiheadAttention
from fastdrop.nn.normalization import BatchNorm1d, BatchNorm2d
from fastdrop.nn.operations import cat, stack
from fastdrop.nn.recurrent import GRU, LSTM, RNN
from fastdrop.nn.regularizers import EarlyStopping, MaxNorm, max_norm_
from fastdrop.nn.scores import evaluate, predict
from fastdrop.nn.tensor import Tensor, as_tensor
from fastdrop.nn.train import Callback, History, fit, load_weights, save_weights
from fastdrop.nn.transformer import TransformerEncoder, TransformerEncoderLayer
from fastdrop.nn.words import WordDropout
from fastdrop.nn.zoneout import Zoneout

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "ActivationDropout",
    "AlphaDropout",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Callback",
    "Conv2d",
    "CrossEntropyLoss",
    "DropBlock1d",
    "DropBlock2d",
    "DropBlock3d",
    "DropConnectLinear",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "DropoutAdd",
    "EarlyStopping",
    "Embedding",
    "FeatureAlphaDropout",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "History",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LockedDropout",
    "LogSoftmax",
    "MCPrediction",
    "MSELoss",
    "MaxNorm",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Tanh",
    "Tensor",
    "TokenDropout",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "WeightDrop",
    "WordDropout",
    "Zoneout",
    "arange",
    "as_tensor",
    "cat",
    "enable_grad",
    "evaluate",
    "fit",
    "from_numpy",
    "functional",
    "init",
    "is_grad_enabled",
    "load_weights",
    "max_norm_",
    "mc_dropout",
    "mc_predict",
    "no_grad",
    "ones",
    "predict",
    "rand",
    "randint",
    "randn",
    "relu",
    "save_weights",
    "stack",
    "tensor",
    "zeros",
]
