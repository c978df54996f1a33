"""Typical PyTorch programs run with only their import lines changed, and print the same models."""

import contextlib
import io

import pytest

SEQUENTIAL = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(784, 256),
    nn.ReLU(),
    nn.Dropout(p=0.5),
    nn.Linear(256, 128),
    nn.ReLU(),
    nn.Dropout(p=0.3),
    nn.Linear(128, 10),
)
x = torch.randn(32, 784)
y = torch.randint(0, 10, (32,))
model.train()
first, second = model(x), model(x)
print("training differs", bool((first != second).float().mean().item() > 0))
loss = nn.CrossEntropyLoss()(first, y)
loss.backward()
print(all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters()))
model.eval()
with torch.no_grad():
    first, second = model(x), model(x)
print("inference repeats", bool((first == second).float().mean().item() == 1), first.requires_grad)
print(model)
"""

SUBCLASS = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(20, 64)
        self.dropout = nn.Dropout(0.25)
        self.fc2 = nn.Linear(64, 5)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = self.dropout(x)
        return F.log_softmax(self.fc2(x), dim=1)


torch.manual_seed(1)
net = Net()
optimizer = optim.Adam(net.parameters(), lr=0.01)
x = torch.randn(64, 20)
y = torch.randint(0, 5, (64,))
losses = []
for step in range(30):
    optimizer.zero_grad()
    loss = F.nll_loss(net(x), y)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print("learns", losses[-1] < losses[0] / 2)
net.eval()
with torch.no_grad():
    correct = (net(x).argmax(dim=1) == y).float().mean().item()
print("fits", correct > 0.8)
print(sum(p.numel() for p in net.parameters()), list(net.state_dict()))
print(net)
"""

IMPORTS = {
    "import torch\n": "import fastdrop as torch\n",
    "from torch import nn\n": "from fastdrop import nn\n",
    "import torch.nn as nn\n": "import fastdrop.nn as nn\n",
    "import torch.nn.functional as F\n": "import fastdrop.nn.functional as F\n",
    "import torch.optim as optim\n": "import fastdrop.optim as optim\n",
}


def run(source):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(source, "<example>", "exec"), {"__name__": "__main__"})
    return output.getvalue()


@pytest.mark.parametrize("source", [SEQUENTIAL, SUBCLASS], ids=["sequential", "subclass"])
def test_example(source):
    changed = source
    for theirs, ours in IMPORTS.items():
        changed = changed.replace(theirs, ours)
    printed = run(changed)
    assert "False\n" not in printed.replace("inference repeats True False\n", "")
    pytest.importorskip("torch")
    assert printed == run(source)
