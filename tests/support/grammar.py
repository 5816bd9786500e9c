"""Random networks from a grammar of the operations that are followed, one for every seed.

A network is a list of steps on a pool of tensors: images (n, c, 8, 8), tokens (n, 6, c) and vectors
(n, c). Sizes are read off shapes, held as attributes, or left as literals, as people write them.
"""

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXELS, STEPS, CLASSES = 8, 6, 5
WIDTHS = (4, 6, 8, 12, 16)


class Step(nn.Module):
    """One operation with its layers: `run(self, *tensors)`."""

    def __init__(self, title, run, n_inputs=1, **parts):
        super().__init__()
        self.title, self.run, self.n_inputs = title, run, n_inputs
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *tensors):
        return self.run(self, *tensors)

    def extra_repr(self):
        return self.title


class Random(nn.Module):
    """The network of a seed.

    Args:
        seed: What it is drawn from.
    """

    def __init__(self, seed):
        super().__init__()
        self.draw = random.Random(seed)
        self.kind = self.draw.choice(["image", "image", "tokens", "vector"])
        self.inputs = self.example(2, seed)
        self.steps, self.uses = nn.ModuleList(), []
        with torch.no_grad():
            pool = [self.inputs]
            stem = Step("stem", lambda s, x: s.layer(x), layer=self._stem())
            self._take(stem, [0], pool)
            for _ in range(self.draw.randint(3, 10)):
                self._grow(pool)
            used = {i for use in self.uses for i in use}
            self.ends = [i for i in range(1, len(pool)) if i not in used]
            width = sum(_pooled(pool[i]).shape[1] for i in self.ends)
        self.head = nn.Linear(width, CLASSES)
        del self.draw

    def example(self, n, seed):
        """Draw inputs."""
        shape = {"image": (3, PIXELS, PIXELS), "tokens": (STEPS, 5), "vector": (7,)}[self.kind]
        return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))

    def forward(self, x):
        pool = [x]
        for step, use in zip(self.steps, self.uses, strict=True):
            pool.append(step(*(pool[i] for i in use)))
        return self.head(torch.cat([_pooled(pool[i]) for i in self.ends], 1))

    def story(self):
        """Say in one line what the network does."""
        pairs = zip(self.steps, self.uses, strict=True)
        return ", ".join(f"{i + 1}={s.title}{list(u)}" for i, (s, u) in enumerate(pairs))

    def _stem(self):
        width = self.draw.choice(WIDTHS)
        if self.kind == "image":
            return nn.Conv2d(3, width, 3, padding=1)
        return nn.Linear(self.inputs.shape[-1], width)

    def _grow(self, pool):
        """Add a step that runs; two steps out of three go on from the newest tensor."""
        for _ in range(50):
            first = len(pool) - 1
            if self.draw.random() > 0.66:
                first = self.draw.randrange(1, len(pool))
            try:
                made = self.draw.choice(MAKERS[pool[first].dim()])(self.draw, pool[first])
                use = [first] if made is None else self._used(made, first, pool)
                out = None if made is None else made(*(pool[i] for i in use))
            except RuntimeError:  # some views need other strides
                continue
            if out is not None and out.shape[_channel_dim(out)] <= 64 and out.isfinite().all():
                self._take(made, use, pool)
                return

    def _used(self, made, first, pool):
        """Choose a second tensor for a step that needs two: alike, but for its width in a cat."""
        if made.n_inputs == 1:
            return [first]
        form = _without_width if made.title.startswith("cat") else (lambda x: list(x.shape))
        same = [i for i in range(1, len(pool)) if pool[i].dim() == pool[first].dim()]
        return [first, self.draw.choice([i for i in same if form(pool[i]) == form(pool[first])])]

    def _take(self, step, use, pool):
        self.steps.append(step)
        self.uses.append(tuple(use))
        pool.append(step.eval()(*(pool[i] for i in use)))


def _channel_dim(x):
    return 1 if x.dim() in (2, 4) else 2


def _without_width(x):
    return [n for d, n in enumerate(x.shape) if d != _channel_dim(x)]


def _pooled(x):
    return x.mean((2, 3)) if x.dim() == 4 else x.amax(1) if x.dim() == 3 else x


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


# ------------------------------------------------------------------------------ of every kind

ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky": F.leaky_relu,
    "elu": F.elu,
    "softplus": F.softplus,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "relu6": F.relu6,
    "mish": F.mish,
    "abs": torch.abs,
    "square": lambda x: x.tanh() ** 2,
    "exp": lambda x: (-x.abs()).exp(),
    "cos": torch.cos,
    "sin": torch.sin,
    "clamp": lambda x: x.clamp(-1, 1),
    "clamp_up": lambda x: x.clamp(min=0.2),
    "softsign": F.softsign,
    "plus_one": lambda x: x + 1.0,
    "twice": lambda x: 2 * x,
    "minus": lambda x: -x,
    "one_minus": lambda x: 1 - x,
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "where_zero": lambda x: torch.where(x > 0.1, x, 0.0),
    "where_one": lambda x: torch.where(x > 0.1, x, 1.0),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
    "masked_fill_one": lambda x: x.masked_fill(x < 0, 1.0),
    "rsqrt": lambda x: (x.square() + 1).rsqrt(),
    "sign": lambda x: x.sign() * x.abs().sqrt(),
    "dropout": lambda x: F.dropout(x, 0.5, False),
    "relu_": lambda x: F.relu_(x.clone()),
    "add_": lambda x: x.clone().add_(0.5),
    "mul_": lambda x: x.clone().mul_(0.5),
    "nan_to_num": lambda x: x.nan_to_num(),
    "detached": lambda x: x * x.detach().sigmoid(),
}


def activation(draw, x):
    name = draw.choice(list(ACTIVATIONS))
    return Step(name, lambda s, x: ACTIVATIONS[name](x))


PAIRS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b.tanh(),
    "gate": lambda a, b: a * b.sigmoid(),
    "max": torch.maximum,
    "min": torch.minimum,
    "div": lambda a, b: a / (1 + b.square()),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "addcmul": lambda a, b: torch.addcmul(a, a.tanh(), b.tanh()),
    "where_pair": lambda a, b: torch.where(a > b, a, b.tanh()),
    "where_cond": lambda a, b: torch.where(a > 0, b, 0.0),
    "stack_mean": lambda a, b: torch.stack([a, b]).mean(0),
    "stack_sum": lambda a, b: torch.stack([a, b], -1).sum(-1),
    "stack_max": lambda a, b: torch.stack([a, b], -1).amax(-1),
    "atan2": lambda a, b: torch.atan2(a, 1 + b.square()),
    "iadd": lambda a, b: a.clone().add_(b),
    "hypot": torch.hypot,
    "logaddexp": torch.logaddexp,
}


def pair(draw, x):
    name = draw.choice(list(PAIRS))
    return Step(name, lambda s, a, b: PAIRS[name](a, b), 2)


def cat(draw, x):
    return Step("cat", lambda s, a, b: torch.cat([a, b], _channel_dim(a)), 2)


def cat_thrice(draw, x):
    return Step("cat_thrice", lambda s, a, b: torch.cat([a, b, a.tanh()], _channel_dim(a)), 2)


def chunked(draw, x):
    dim, width = _channel_dim(x), x.shape[_channel_dim(x)]
    if width % 2:
        return None
    uses = {
        "swap": lambda a, b: torch.cat([b, a], dim),
        "glu_by_hand": lambda a, b: a * b.sigmoid(),
        "sum": lambda a, b: a + b,
        "first": lambda a, b: a,
        "partial": lambda a, b: torch.cat([F.relu(a), b], dim),
    }
    name, way = draw.choice(list(uses)), draw.choice(["chunk", "split", "slice", "attribute"])
    step = Step(f"{way}_{name}", None, half=width // 2, way=way)
    ways = {
        "chunk": lambda s, x: x.chunk(2, dim),
        "split": lambda s, x: x.split(x.shape[dim] // 2, dim),
        "slice": lambda s, x: (
            x.narrow(dim, 0, x.shape[dim] // 2),
            x.narrow(dim, x.shape[dim] // 2, x.shape[dim] // 2),
        ),
        "attribute": lambda s, x: x.split([s.half, s.half], dim),
    }
    step.run = lambda s, x: uses[name](*ways[way](s, x))
    return step


def uneven(draw, x):
    dim, width = _channel_dim(x), x.shape[_channel_dim(x)]
    if width < 4:
        return None
    cut = draw.choice([1, 2, width // 4 or 1])
    step = Step(f"uneven_{cut}", None, first=cut, rest=width - cut)

    def run(s, x):
        a, b = x.split([s.first, s.rest], dim)
        return torch.cat([F.relu(b), a], dim)

    step.run = run
    return step


def moved(draw, x):
    dim = _channel_dim(x)
    name = draw.choice(["flip", "roll", "index", "repeat", "interleave", "glu", "every_second"])
    if name in ("glu", "every_second") and x.shape[dim] % 2:
        return None
    order = torch.randperm(x.shape[dim])
    ways = {
        "flip": lambda s, x: x.flip(dim),
        "roll": lambda s, x: x.roll(1, dim),
        "index": lambda s, x: x.index_select(dim, s.order),
        "repeat": lambda s, x: x.repeat([2 if d == dim else 1 for d in range(x.dim())]),
        "interleave": lambda s, x: x.repeat_interleave(2, dim),
        "glu": lambda s, x: F.glu(x, dim),
        "every_second": lambda s, x: x.movedim(dim, 0)[::2].movedim(0, dim),
    }
    return Step(name, ways[name], order=order)


def scaled(draw, x):
    dim = _channel_dim(x)
    shape = [1] * x.dim()
    shape[dim] = x.shape[dim]
    name = draw.choice(["gamma", "beta", "affine", "scalar", "buffer", "buffer_add", "line", "one"])
    runs = {
        "gamma": lambda s, x: x * s.g,
        "beta": lambda s, x: x + s.b,
        "affine": lambda s, x: x * s.g + s.b,
        "scalar": lambda s, x: x * s.one + s.one,
        "buffer": lambda s, x: x * s.c,
        "buffer_add": lambda s, x: x + s.c,
        "line": lambda s, x: x * s.g.flatten().view(shape_of(x)),
        "one": lambda s, x: x * s.one,
    }

    def shape_of(x):
        sizes = [1] * x.dim()
        sizes[dim] = -1
        return sizes

    parts = {"c": torch.randn(shape), "one": parameter(1)}
    if name in ("gamma", "affine", "line"):
        parts["g"] = parameter(*shape)
    if name in ("beta", "affine"):
        parts["b"] = parameter(*shape)
    if "buffer" not in name:
        del parts["c"]
    if name not in ("scalar", "one"):
        del parts["one"]
    return Step(name, runs[name], **parts)


def hand_norm(draw, x):
    dim, name = _channel_dim(x), draw.choice(["layer", "rms", "standard", "l2", "var", "centre"])
    runs = {
        "layer": lambda s, x: (
            (x - x.mean(dim, keepdim=True))
            / ((x - x.mean(dim, keepdim=True)).square().mean(dim, keepdim=True) + 1e-5).sqrt()
        ),
        "rms": lambda s, x: x * (x.square().mean(dim, keepdim=True) + 1e-5).rsqrt(),
        "standard": lambda s, x: (x - x.mean(dim, keepdim=True)) / (x.std(dim, keepdim=True) + 0.1),
        "l2": lambda s, x: F.normalize(x, dim=dim),
        "var": lambda s, x: x / (x.var(dim, keepdim=True) + 0.1).sqrt(),
        "centre": lambda s, x: x - x.mean(dim, keepdim=True),
    }
    shape = [1] * x.dim()
    shape[dim] = x.shape[dim]
    parts = {"g": parameter(*shape), "b": parameter(*shape)} if draw.random() < 0.7 else {}
    way = runs[name]
    run = (lambda s, x: way(s, x) * s.g + s.b) if parts else way
    return Step(f"hand_{name}{'_affine' if parts else ''}", run, **parts)


def gate_of_one(draw, x):
    dim, width = _channel_dim(x), x.shape[_channel_dim(x)]
    layer = nn.Conv2d(width, 1, 1) if x.dim() == 4 else nn.Linear(width, 1)
    name = draw.choice(["sigmoid", "softmax", "mean", "amax"])
    runs = {
        "sigmoid": lambda s, x: x * s.layer(x).sigmoid(),
        "softmax": lambda s, x: x * s.layer(x).softmax(-1 if x.dim() == 4 else 1),
        "mean": lambda s, x: x * x.mean(dim, keepdim=True).sigmoid(),
        "amax": lambda s, x: x * x.amax(dim, keepdim=True).sigmoid(),
    }
    return Step(f"gate_{name}", runs[name], layer=layer)


def over_channels(draw, x):
    dim = _channel_dim(x)
    name = draw.choice(["softmax", "cumsum", "sum", "norm", "log_softmax", "sort"])
    runs = {
        "softmax": lambda s, x: x.softmax(dim),
        "cumsum": lambda s, x: x.cumsum(dim),
        "sum": lambda s, x: x + x.sum(dim, keepdim=True),
        "norm": lambda s, x: x / (1 + x.norm(dim=dim, keepdim=True)),
        "log_softmax": lambda s, x: F.log_softmax(x, dim),
        "sort": lambda s, x: x.sort(dim)[0],
    }
    return Step(f"over_{name}", runs[name])


COMMON = [activation] * 4 + [pair] * 3 + [cat, cat_thrice, chunked, chunked, uneven, moved, moved]
COMMON += [scaled, scaled, hand_norm, gate_of_one, over_channels]

# ------------------------------------------------------------------------------------ images


def conv(draw, x):
    width, out, kernel = x.shape[1], draw.choice(WIDTHS), draw.choice([1, 3])
    options = {"padding": kernel // 2, "bias": draw.random() < 0.6}
    options["padding_mode"] = draw.choice(["zeros"] * 4 + ["reflect", "circular"])
    return Step("conv", lambda s, x: s.layer(x), layer=nn.Conv2d(width, out, kernel, **options))


def grouped(draw, x):
    width, kind = x.shape[1], draw.choice(["depthwise", "multiplied", "grouped", "transposed"])
    if kind == "depthwise":
        layer = nn.Conv2d(width, width, 3, padding=1, groups=width)
    elif kind == "multiplied":
        layer = nn.Conv2d(width, 2 * width, 3, padding=1, groups=width)
    elif kind == "grouped" and width % 2 == 0:
        layer = nn.Conv2d(width, draw.choice([4, 8, 12]), 3, padding=1, groups=2)
    elif kind == "transposed":
        layer = nn.ConvTranspose2d(width, draw.choice(WIDTHS), 3, padding=1)
    else:
        return None
    return Step(kind, lambda s, x: s.layer(x), layer=layer)


def image_norm(draw, x):
    width = x.shape[1]
    layers = {
        "batch": nn.BatchNorm2d(width),
        "batch_plain": nn.BatchNorm2d(width, affine=False),
        "group_1": nn.GroupNorm(1, width),
        "group_2": nn.GroupNorm(2, width) if width % 2 == 0 else nn.GroupNorm(1, width),
        "group_all": nn.GroupNorm(width, width),
        "group_plain": nn.GroupNorm(1, width, affine=False),
        "instance": nn.InstanceNorm2d(width),
        "instance_affine": nn.InstanceNorm2d(width, affine=True),
        "layer_map": nn.LayerNorm(list(x.shape[1:])),
        "prelu": nn.PReLU(width),
        "prelu_1": nn.PReLU(),
    }
    name = draw.choice(list(layers))
    return Step(name, lambda s, x: s.layer(x), layer=layers[name])


def channels_last_norm(draw, x):
    layer = draw.choice([nn.LayerNorm, nn.RMSNorm])(x.shape[1])
    return Step(
        "norm_last", lambda s, x: s.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), layer=layer
    )


def spatial(draw, x):
    ways = {
        "avg": lambda s, x: F.avg_pool2d(x, 3, 1, 1),
        "max": lambda s, x: F.max_pool2d(x, 3, 1, 1),
        "up": lambda s, x: F.avg_pool2d(F.interpolate(x, scale_factor=2), 2),
        "bilinear": lambda s, x: F.max_pool2d(
            F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), 2
        ),
        "pad": lambda s, x: F.pad(x, (1, 1, 1, 1))[:, :, 1:-1, 1:-1],
        "pad_one": lambda s, x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), value=1.0), 3, 1),
        "reflect": lambda s, x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1),
        "roll": lambda s, x: x.roll((1, 2), (2, 3)),
        "flip": lambda s, x: x.flip(-1),
        "transposed": lambda s, x: x.transpose(2, 3),
        "shuffle": lambda s, x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2),
        "unshuffle_up": lambda s, x: F.interpolate(F.pixel_unshuffle(x, 2), scale_factor=2),
        "softmax_2d": lambda s, x: x.flatten(2).softmax(-1).view_as(x),
        "global_gate": lambda s, x: x * F.adaptive_avg_pool2d(x, 1).sigmoid(),
        "global_mean": lambda s, x: x - x.mean((2, 3), keepdim=True),
        "global_max": lambda s, x: x + F.adaptive_max_pool2d(x, 1),
        "lp": lambda s, x: F.lp_pool2d(F.pad(x, (1, 1, 1, 1)), 2.0, 3, 1),
        "unfold": lambda s, x: F.fold(F.unfold(x, 2, stride=2), x.shape[2:], 2, stride=2),
        "quarters": lambda s, x: torch.cat(
            [torch.cat([x[:, :, ::2, ::2], x[:, :, 1::2, ::2]], 3)] * 2, 2
        ),
        "strided": lambda s, x: F.interpolate(x[:, :, ::2, ::2], scale_factor=2),
    }
    name = draw.choice(list(ways))
    return Step(name, ways[name])


def squeeze_excite(draw, x):
    width, inner = x.shape[1], draw.choice([4, 8])
    kind = draw.choice(["sigmoid", "hardsigmoid", "linear"])
    if kind == "linear":
        return Step(
            "se_linear",
            lambda s, x: x * s.up(F.relu(s.down(x.mean((2, 3))))).sigmoid()[:, :, None, None],
            **{"down": nn.Linear(width, inner), "up": nn.Linear(inner, width)},
        )
    return Step(
        f"se_{kind}",
        lambda s, x: x * getattr(F, kind)(s.up(F.relu(s.down(F.adaptive_avg_pool2d(x, 1))))),
        **{"down": nn.Conv2d(width, inner, 1), "up": nn.Conv2d(inner, width, 1)},
    )


def shuffled(draw, x):
    if x.shape[1] % 2:
        return None
    half = x.shape[1] // 2
    ways = {
        "shuffle_view": lambda s, x: (
            x.view(x.shape[0], 2, x.shape[1] // 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        ),
        "shuffle_attribute": lambda s, x: (
            x.reshape(x.shape[0], 2, s.half, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        ),
        "channel_shuffle": lambda s, x: F.channel_shuffle(x, 2),
        "sum_halves": lambda s, x: x.unflatten(1, (2, -1)).sum(1),
        "max_pairs": lambda s, x: x.unflatten(1, (-1, 2)).amax(2),
        "select": lambda s, x: x.unflatten(1, (2, -1))[:, 0],
        "stacked_halves": lambda s, x: torch.stack(x.chunk(2, 1), 2).flatten(1, 2),
        "unbind": lambda s, x: torch.cat(
            [part.unsqueeze(1) for part in x.unflatten(1, (2, -1)).unbind(1)], 1
        ).sum(1),
    }
    name = draw.choice(list(ways))
    return Step(name, ways[name], half=half)


def placed(draw, x):
    kind = draw.choice(["parameter", "buffer", "coordinates", "parameter_scale"])
    if kind == "coordinates":
        line = torch.linspace(-1, 1, PIXELS)
        return Step(
            "coordinates",
            lambda s, x: torch.cat([x, s.grid.expand(len(x), -1, -1, -1)], 1),
            grid=torch.stack(torch.meshgrid(line, line, indexing="ij")),
        )
    table = torch.randn(1, *x.shape[1:])
    own = table if kind == "buffer" else nn.Parameter(table)
    if kind == "parameter_scale":
        return Step(kind, lambda s, x: x * s.table, table=own)
    return Step(f"place_{kind}", lambda s, x: x + s.table, table=own)


def to_tokens(draw, x):
    return Step(
        "to_tokens", lambda s, x: F.adaptive_avg_pool2d(x, (2, 3)).flatten(2).transpose(1, 2)
    )


def to_vector(draw, x):
    ways = {
        "mean": lambda s, x: x.mean((2, 3)),
        "pool": lambda s, x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        "flatten": lambda s, x: F.adaptive_avg_pool2d(x, 2).flatten(1),
        "view": lambda s, x: F.adaptive_max_pool2d(x, 2).view(x.size(0), -1),
        "corner": lambda s, x: x[:, :, 0, 0],
        "std": lambda s, x: x.flatten(2).std(2),
        "gram": lambda s, x: (x.flatten(2) @ x.flatten(2).transpose(1, 2)).mean(2),
    }
    name = draw.choice(list(ways))
    step = Step(name, ways[name])
    return step if step(x).shape[1] <= 64 else None


def standardised(draw, x):
    layer = nn.Conv2d(x.shape[1], draw.choice([4, 8]), 3, padding=1)

    def run(s, x):
        w = s.layer.weight
        w = w - w.mean((1, 2, 3), keepdim=True)
        w = w / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, s.layer.bias, padding=1)

    return Step("standardised", run, layer=layer)


def blurred(draw, x):
    return Step(
        "blur",
        lambda s, x: F.conv2d(
            F.pad(x, (1, 1, 1, 1), mode="reflect"),
            s.kernel.expand(x.shape[1], 1, 3, 3),
            groups=x.shape[1],
        ),
        kernel=torch.ones(1, 1, 3, 3) / 9,
    )


IMAGES = (
    COMMON + [conv] * 6 + [grouped] * 3 + [image_norm] * 4 + [channels_last_norm, spatial, spatial]
)
IMAGES += [spatial, squeeze_excite, shuffled, shuffled, placed, to_tokens, to_vector, blurred]
IMAGES += [standardised]

# ------------------------------------------------------------------------------------ tokens


def linear(draw, x):
    width, out = x.shape[-1], draw.choice(WIDTHS)
    kind = draw.choice(["module", "module", "matmul", "addmm", "einsum", "functional", "conv1d"])
    if kind == "conv1d" and x.dim() == 3:
        layer = nn.Conv1d(width, out, 3, padding=1)
        return Step("conv1d", lambda s, x: s.layer(x.transpose(1, 2)).transpose(1, 2), layer=layer)
    w, b = parameter(width, out), parameter(out)
    if kind == "matmul":
        return Step("matmul", lambda s, x: x @ s.w + s.b, w=w, b=b)
    if kind == "addmm":
        return Step(
            "addmm",
            lambda s, x: torch.addmm(s.b, x.reshape(-1, x.shape[-1]), s.w).view(
                *x.shape[:-1], s.w.shape[1]
            ),
            **{"w": w, "b": b},
        )
    if kind == "einsum":
        return Step("einsum", lambda s, x: torch.einsum("...i,io->...o", x, s.w), w=w)
    if kind == "functional":
        return Step("f_linear", lambda s, x: F.linear(x, s.w.t(), s.b), w=w, b=b)
    return Step("linear", lambda s, x: s.layer(x), layer=nn.Linear(width, out))


def token_norm(draw, x):
    width = x.shape[-1]
    layers = {
        "layer": nn.LayerNorm(width),
        "layer_plain": nn.LayerNorm(width, elementwise_affine=False),
        "layer_bare": nn.LayerNorm(width, bias=False),
        "rms": nn.RMSNorm(width),
        "rms_plain": nn.RMSNorm(width, elementwise_affine=False),
    }
    name = draw.choice(list(layers))
    return Step(f"norm_{name}", lambda s, x: s.layer(x), layer=layers[name])


def attention(draw, x):
    width = x.shape[-1]
    heads = draw.choice([1, 2, 4])
    if width % heads:
        return None
    kind = draw.choice(["torch", "heads", "open", "literal", "unscaled", "bias", "plus"])
    if kind == "torch":
        layer = nn.MultiheadAttention(width, heads, batch_first=True)
        return Step("mha", lambda s, x: s.layer(x, x, x, need_weights=False)[0], layer=layer)
    size = width // heads

    def run(s, x):
        n, t, _ = x.shape
        if kind in ("heads", "bias"):
            qkv = s.qkv(x).reshape(n, t, 3, s.heads, s.size).permute(2, 0, 3, 1, 4)
        elif kind == "open":
            qkv = s.qkv(x).view(n, t, 3, -1, s.size).permute(2, 0, 3, 1, 4)
        else:
            qkv = s.qkv(x).view(n, t, 3, heads, size).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if kind == "unscaled":
            y = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        elif kind == "bias":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=s.bias)
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        y = s.out(y.transpose(1, 2).flatten(2))
        return x + y if kind == "plus" else y

    parts = {"bias": parameter(1, heads, x.shape[1], x.shape[1])} if kind == "bias" else {}
    return Step(
        f"attention_{kind}",
        run,
        **{"qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width)},
        **{"heads": heads, "size": size, **parts},
    )


def recurrent(draw, x):
    kind = draw.choice([nn.LSTM, nn.GRU, nn.RNN])
    both, layers = draw.random() < 0.4, draw.choice([1, 2])
    layer = kind(x.shape[-1], draw.choice([4, 8]), layers, batch_first=True, bidirectional=both)
    return Step(kind.__name__, lambda s, x: s.layer(x)[0], layer=layer)


def block(draw, x):
    width, inner = x.shape[-1], draw.choice([8, 16])
    kind = draw.choice(["mlp", "geglu", "prenorm", "swiglu"])
    up = nn.Linear(width, 2 * inner if kind == "geglu" else inner)

    def run(s, x):
        if kind == "geglu":
            a, b = s.up(x).chunk(2, -1)
            return x + s.down(a * F.gelu(b))
        if kind == "prenorm":
            return x + s.down(F.gelu(s.up(s.norm(x))))
        if kind == "swiglu":
            return x + s.down(F.silu(s.up(x)) * s.gate(x))
        return x + s.down(F.relu(s.up(x)))

    parts = {"up": up, "down": nn.Linear(inner, width)}
    parts |= {"norm": nn.LayerNorm(width)} if kind == "prenorm" else {}
    parts |= {"gate": nn.Linear(width, inner)} if kind == "swiglu" else {}
    return Step(f"block_{kind}", run, **parts)


def token_move(draw, x):
    width, n = x.shape[-1], x.shape[1]
    ways = {
        "class_token": lambda s, x: torch.cat([s.token.expand(len(x), -1, -1), x], 1)[:, :-1],
        "positions": lambda s, x: x + s.places,
        "shift": lambda s, x: torch.cat([x[:, 1:], x[:, :1]], 1),
        "time_mix": lambda s, x: s.mix(x.transpose(1, 2)).transpose(1, 2),
        "embedded": lambda s, x: x + s.table(torch.arange(x.shape[1], device=x.device)),
        "pool_score": lambda s, x: x + (s.score(x).softmax(1) * x).sum(1, keepdim=True),
        "self_mix": lambda s, x: (x @ x.transpose(1, 2)).softmax(-1) @ x,
        "bmm": lambda s, x: torch.bmm(s.score(x).expand(-1, -1, x.shape[1]), x),
        "causal": lambda s, x: x.cumsum(1),
        "batch_norm": lambda s, x: s.batch(x.transpose(1, 2)).transpose(1, 2),
    }
    name = draw.choice(list(ways))
    parts = {
        "class_token": {"token": parameter(1, 1, width)},
        "positions": {"places": parameter(1, n, width)},
        "time_mix": {"mix": nn.Linear(n, n)},
        "embedded": {"table": nn.Embedding(n, width)},
        "pool_score": {"score": nn.Linear(width, 1)},
        "bmm": {"score": nn.Linear(width, 1)},
        "batch_norm": {"batch": nn.BatchNorm1d(width)},
    }
    return Step(name, ways[name], **parts.get(name, {}))


def from_tokens(draw, x):
    ways = {
        "first": lambda s, x: x[:, 0],
        "mean": lambda s, x: x.mean(1),
        "last": lambda s, x: x[:, -1],
        "flat": lambda s, x: x.flatten(1),
    }
    name = draw.choice(list(ways))
    step = Step(f"{name}_token", ways[name])
    return step if step(x).shape[1] <= 64 else None


TOKENS = COMMON + [linear] * 6 + [token_norm] * 3 + [attention] * 4 + [recurrent] + [block] * 3
TOKENS += [token_move] * 3 + [from_tokens]

# ----------------------------------------------------------------------------------- vectors


def vector_norm(draw, x):
    width = x.shape[-1]
    layers = {
        "batch_1d": nn.BatchNorm1d(width),
        "layer_1d": nn.LayerNorm(width),
        "rms_1d": nn.RMSNorm(width),
        "group_1d": nn.GroupNorm(2 if width % 2 == 0 else 1, width),
        "plain_1d": nn.BatchNorm1d(width, affine=False),
    }
    name = draw.choice(list(layers))
    return Step(name, lambda s, x: s.layer(x), layer=layers[name])


def vector_move(draw, x):
    width = x.shape[-1]
    ways = {
        "outer": lambda s, x: (s.a(x)[:, :, None] * s.b(x)[:, None, :]).flatten(1),
        "bilinear": lambda s, x: s.c(x, x),
        "cell": lambda s, x: s.d(x, s.e(x)),
        "maps": lambda s, x: x[:, :, None, None].expand(-1, -1, PIXELS, PIXELS),
        "tokens": lambda s, x: x[:, None].repeat(1, STEPS, 1),
        "similar": lambda s, x: x * F.cosine_similarity(x, s.e(x), dim=1)[:, None],
    }
    name = draw.choice(list(ways))
    parts = {
        "outer": {"a": nn.Linear(width, 4), "b": nn.Linear(width, 6)},
        "bilinear": {"c": nn.Bilinear(width, width, 6)},
        "cell": {"d": nn.GRUCell(width, 8), "e": nn.Linear(width, 8)},
        "similar": {"e": nn.Linear(width, width)},
    }
    return Step(name, ways[name], **parts.get(name, {}))


VECTORS = COMMON + [linear] * 6 + [vector_norm] * 3 + [block] * 2 + [vector_move] * 3
MAKERS = {4: IMAGES, 3: TOKENS, 2: VECTORS}
