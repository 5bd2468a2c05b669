"""ResNet-18s for CIFAR-10, trained for some minutes, naturally and adversarially.

    python benchmarks/_resnet_models.py --folder MODELS --steps 300 --width 64

The adversarial one starts from the natural one and sees one-step adversarial examples
from a random start (Wong et al., "Fast is better than free", ICLR 2020). Both are saved
in ``MODELS`` and read again by the benchmarks, so they are trained once.
"""

import argparse
import time
from pathlib import Path

import torch
from _data import load
from torch import nn

from robustfit import ThreatModel
from robustfit.attacks import PGD
from robustfit.nets import ResNet18

BATCH = 64
N_TRAIN = 8000


def train(net, X, y, *, eps, n_steps, seed, device):
    """Train on batches of flipped images, perturbed within ``eps`` when positive."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, n_steps)
    ball = ThreatModel("linf", eps)
    attack = PGD(1, 1.25 * eps if eps else None)
    start = time.time()
    for step in range(n_steps):
        rows = torch.randint(len(X), (BATCH,), generator=generator)
        flip = torch.rand(BATCH, 1, 1, 1, generator=generator) < 0.5
        x = torch.where(flip, X[rows].flip(3), X[rows]).to(device)
        labels = y[rows].to(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            if eps:
                noise = torch.Generator(device).manual_seed(seed + step)
                x = attack(net.eval(), x, labels, ball, noise)
            loss = nn.functional.cross_entropy(net.train()(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 0:
            print(
                f"step {step} loss {loss:.3f} {time.time() - start:.0f} s", flush=True
            )
    return net.eval()


def model(kind, folder, *, n_steps=300, width=64, seed=0, device="cpu"):
    """Return the net "natural" or "robust", from its file or trained now."""
    path = Path(folder) / f"resnet18_{kind}_{width}_{n_steps}_{seed}.pt"
    net = ResNet18(width=width).to(device, memory_format=torch.channels_last)
    if path.exists():
        net.load_state_dict(torch.load(path, map_location=device))
        return _frozen(net)
    eps = 8 / 255 if kind == "robust" else 0.0
    torch.manual_seed(seed)
    net = ResNet18(width=width).to(device, memory_format=torch.channels_last)
    if eps:
        same = {"n_steps": n_steps, "width": width, "seed": seed, "device": device}
        natural = model("natural", folder, **same)
        net.load_state_dict(natural.state_dict())
    X, y, _, _ = load("cifar10", N_TRAIN, 1)
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    train(net, X, y, eps=eps, n_steps=n_steps, seed=seed, device=device)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path)
    return _frozen(net)


def _frozen(net):
    # In the usual memory format: pyautoattack fails on gradients of another.
    net = net.to(memory_format=torch.contiguous_format)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net.eval()


def main():
    """Train and save both nets; print their natural accuracy on 200 test images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="models")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--width", type=int, default=64, help="first channels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    _, _, X, y = load("cifar10", 1, 200)
    for kind in ("natural", "robust"):
        net = model(
            kind,
            arguments.folder,
            n_steps=arguments.steps,
            width=arguments.width,
            seed=arguments.seed,
            device=arguments.device,
        )
        with torch.no_grad():
            found = net(torch.as_tensor(X, device=arguments.device)).argmax(1).cpu()
        print(kind, "accuracy", float((found == torch.as_tensor(y)).float().mean()))


if __name__ == "__main__":
    main()
