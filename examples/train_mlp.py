"""Trains a small network on handwritten digits, tests it, saves it and loads it again.

    python examples/train_mlp.py --epochs 30 --out digits.safetensors

What README's shorter script leaves out: a test after each epoch, a checkpoint to go on from, and a look at what the
compiled step became.
"""

import argparse

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import data, models, nn, optim, schedules

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--out", default="digits.safetensors", help="where the checkpoint goes; replaced if it exists")
options = parser.parse_args()

# The images come with the package: rows of 64 float32 values in [0, 1], labels as int64.
train, test = data.load_digits()
loader = data.ArrayLoader((train.x, train.y), batch_size=64, shuffle=True, seed=0)
test_x, test_y = gd.tensor(test.x), gd.tensor(test.y)

gd.manual_seed(0)  # initial weights and dropout; the order of the batches hangs on the loader's own seed
model = models.MLP(64, (128,), 10, dropout=0.1)
# A schedule is a function of the number of updates made so far, so there is no scheduler to step.
rate = schedules.warmup_cosine(3e-3, warmup_steps=50, total_steps=options.epochs * len(loader))
optimizer = optim.AdamW(model.parameters(), lr=rate)


# Recorded at its first call, then replayed in C.  The last batch of an epoch is smaller: it gets a plan of its own.
@gd.compile
def step(x, y):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss


def accuracy(network):
    """The share of test images that the network gets right: without dropout, and with nothing on the tape."""
    network.eval()
    with gd.no_grad():
        right = network(test_x).argmax(1) == test_y
    network.train()
    return right.float().mean().item()


for epoch in range(options.epochs):
    losses = [step(x, y) for x, y in loader]  # results have memory of their own: keeping them is safe
    print(f"epoch {epoch}: loss {sum(loss.item() for loss in losses) / len(losses):.4f}, test {accuracy(model):.1%}")

# One file in the safetensors format: nothing in it is ever unpickled.  A crash while saving leaves the old one whole.
state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
gd.save(options.out, {**state, "random": gd.random.get_state()})

# Going on from it, in this or another process: make the same objects, then load their state.
saved = gd.load(options.out)
resumed = models.MLP(64, (128,), 10, dropout=0.1)
resumed.load_state_dict(saved["model"])
resumed_optimizer = optim.AdamW(resumed.parameters(), lr=rate)
resumed_optimizer.load_state_dict(saved["optimizer"])
loader.load_state_dict(saved["loader"])  # the next batch is the one that would have come
gd.random.set_state(saved["random"])  # and dropout goes on where it was
assert accuracy(resumed) == accuracy(model)
print(f"saved to {options.out} and loaded again")

# What the step became: each kernel call, with what was fused into it, and what it computes.
print(step.explain(train.x[:64], train.y[:64]))
