"""Independent answers for binary orderless models of few columns, in float64 NumPy, from the equations alone."""

import itertools

import numpy as np


def states(columns):
    return np.array(list(itertools.product((0.0, 1.0), repeat=columns)))


def orders(columns):
    return list(itertools.permutations(range(columns)))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def arrays(module):
    return {name: p.detach().double().numpy() for name, p in module.named_parameters()}


ACTIVATIONS = {"relu": lambda a: np.maximum(a, 0), "tanh": np.tanh}


def perceptron_numbers(body, activation, value, known):
    """What the perceptron gives for values with a mask beside each; nothing is hidden from it."""
    w = arrays(body)
    inputs = np.stack([value, known], -1).reshape(len(value), -1)
    h = ACTIVATIONS[activation](inputs @ w["perceptron.first.weight"].T + w["perceptron.first.bias"])
    for name in sorted(n for n in w if n.startswith("perceptron.middle") and n.endswith("weight")):
        h = ACTIVATIONS[activation](h @ w[name].T + w[name.replace("weight", "bias")])
    return h @ w["perceptron.last.weight"].T + w["bias"][:, 0]


def perceptron(model):
    """P(x_i = 1 | known) of every column by orderless NADE."""

    def ones(x, known):
        return sigmoid(perceptron_numbers(model.body, model.activation, x * known, known))

    return ones


def repeated(model):
    """The same by NADE-k: unknown columns start at the means, and are replaced by the conditionals' k - 1 times."""

    def ones(x, known):
        value = np.where(known, x, model.body.means[:, 0].double().numpy())
        for _ in range(model.k):
            p = sigmoid(perceptron_numbers(model.body, model.activation, value, known))
            value = np.where(known, x, p)
        return p

    return ones


def convolve(pictures, weight, bias):
    """Cross-correlation with zeros around: rows x C x H x W by out x C x k x k, output by output."""
    side = weight.shape[-1] // 2
    padded = np.pad(pictures, ((0, 0), (0, 0), (side, side), (side, side)))
    found = np.zeros((len(pictures), len(weight), *pictures.shape[2:]))
    for i in range(pictures.shape[2]):
        for j in range(pictures.shape[3]):
            patch = padded[:, :, i : i + weight.shape[-1], j : j + weight.shape[-1]]
            found[:, :, i, j] = np.einsum("rcij,ocij->ro", patch, weight) + bias
    return found


def convolutional(model):
    """The same by convolutions over the planes of known pixels and of the mask."""
    w, shape = arrays(model.body), model.shape

    def ones(x, known):
        planes = np.stack([x * known, np.broadcast_to(known, x.shape)], 1).reshape(len(x), 2, *shape)
        for layer in range(len(model.channels)):
            above = np.maximum(convolve(planes, w[f"hidden.{layer}.weight"], w[f"hidden.{layer}.bias"]), 0)
            planes = planes + above if model.residual and above.shape == planes.shape else above
        return sigmoid(convolve(planes, w["last.weight"], 0.0).reshape(len(x), -1) + w["bias"][:, 0])

    return ones


def conditionals(ones, x, known):
    """Log-probabilities of all columns given the known ones."""
    p = ones(x, np.broadcast_to(known, x.shape).astype(float))
    return np.log(np.where(x == 1, p, 1 - p))


def log_joint(ones, x, order):
    """log p(x | o), the conditionals one after another."""
    total, known = np.zeros(len(x)), np.zeros(x.shape[1])
    for column in order:
        total += conditionals(ones, x, known)[:, column]
        known[column] = 1
    return total


def log_mixture(ones, x, some_orders):
    return np.log(np.mean([np.exp(log_joint(ones, x, o)) for o in some_orders], 0))


def order_agnostic_loss(ones, x):
    """The mean of D / (D - d) times the loss of the unknown columns, over d and over subsets of that size."""
    columns, total = x.shape[1], np.zeros(len(x))
    for d in range(columns):
        subsets = list(itertools.combinations(range(columns), d))
        for subset in subsets:
            known = np.isin(np.arange(columns), subset)
            terms = -conditionals(ones, x, known)[:, ~known].sum(1)
            total += terms * columns / (columns - d) / (columns * len(subsets))
    return total
