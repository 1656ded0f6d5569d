"""Run a model in its own framework and write the trace that `weighbridge parity --trace` reads.

    weighbridge-capture MODEL OUT.safetensors [--random 2x48 --seed 1 | --tokens FILE | --text FILE] [--device cuda] [--dtype float64]
    weighbridge parity MODEL --trace OUT.safetensors

MODEL is a folder with a checkpoint and its config (for hf and fla also a name on the hub). The framework is told from the config, or by --framework:
hf (transformers), fla (flash-linear-attention), mamba_ssm, lit_gpt (microsoft/Samba), archscale (microsoft/ArchScale), torchscale, berlino (gated_linear_attention); the last four, and
mamba_ssm without a GPU, need --checkout, a clone of their repository.

The trace holds what hooks see: the residual stream entering each layer and leaving the last (hidden_states.i), the stream between a layer's sub-layers
(sublayer.i), the last norm's output, the logits, and the tokens; with --generate also a greedy continuation. Values keep the type that the model runs in,
which the metadata tells, so that parity knows how coarse the framework's own rounding is.

Without a GPU (or with --stand-ins) kernels run in Triton's interpreter or as plain equations; the metadata says so. docs/capture.md has an example
for each framework.
"""
import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

FRAMEWORKS = ("hf", "fla", "mamba_ssm", "lit_gpt", "archscale", "torchscale", "berlino")
PRENORMS = ("norm_m", "norm_attn", "norm_1", "norm_2", "attn_norm", "mixer_norm", "mlp_norm", "ln_1", "ln_2", "input_layernorm", "post_attention_layernorm", "pre_ff_layernorm",
            "retention_layer_norm", "final_layer_norm", "norm", "norm2")  # in the order in which a layer calls them


class Unable(Exception):
    """What the user can do something about; `help` says what."""

    def __init__(self, message, help=None):
        super().__init__(message)
        self.help = help


def arguments():
    p = argparse.ArgumentParser(prog="weighbridge-capture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="a folder with a checkpoint and its config")
    p.add_argument("out", help="the trace to write, a safetensors file")
    p.add_argument("--framework", choices=FRAMEWORKS, help="by default told from the config")
    p.add_argument("--checkout", help="a clone of the framework's repository, where it is no package")
    p.add_argument("--config", help="the config to use instead of the one beside the weights")
    p.add_argument("--device", help="cuda, cuda:1, cpu; by default cuda if there is one")
    p.add_argument("--dtype", default="auto", choices=("auto", "float64", "float32", "bfloat16", "float16"), help="the type to run in; auto: as the checkpoint is")
    p.add_argument("--stand-ins", action="store_true", help="plain equations in place of kernels on a GPU too")
    t = p.add_mutually_exclusive_group()
    t.add_argument("--tokens", help="a JSON array of arrays, or a trace whose tokens to take")
    t.add_argument("--text", help="a text file, cut into sequences by the tokenizer")
    p.add_argument("--random", metavar="BxT", default="2x48", help="sequences x length, of random tokens or of the text (%(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of the random tokens")
    p.add_argument("--tokenizer", help="a tokenizer for --text: a folder, a hub name, or 'bytes'; by default the model's")
    p.add_argument("--generate", type=int, default=0, metavar="N", help="also a greedy continuation of the first sequence by N tokens")
    p.add_argument("--trust-pickle", action="store_true", help="load a .pt or .pth that holds more than tensors: it can run code")
    return p.parse_args()


# ------------------------------------------------------------------ what the model is
def read_config(a):
    folder = Path(a.model)
    if a.config:
        path = Path(a.config)
    elif folder.is_dir():
        path = next((folder / n for n in ("config.json", "lit_config.json", "archscale_config.json") if (folder / n).exists()), None)
    else:
        path = None
    if path is None:
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise Unable(f"{path}: {e}") from None


def told_framework(c):
    """By the keys that only one framework writes."""
    if c is None:
        return None
    if "decoder_embed_dim" in c:
        return "torchscale"
    if "rnn_per_layer" in c:
        return "archscale"
    if "n_embd" in c:
        return "lit_gpt"
    if "d_model" in c:
        return "berlino" if "n_head" in c else "mamba_ssm"
    if "fuse_norm" in c or "norm_eps" in c or c.get("model_type") in ("gla", "retnet", "samba", "transformer"):
        return "fla"
    return "hf" if "model_type" in c else None


def state_dict(a):
    """The tensors of a folder: safetensors, shards too, or PyTorch; the names without the prefixes of wrappers."""
    import torch
    folder = Path(a.model)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else [folder]
    files = files or [f for e in ("bin", "pth", "pt") for f in sorted(folder.glob("*." + e))]
    if not files:
        raise Unable(f"{folder} holds no *.safetensors, *.bin, *.pth or *.pt")
    sd, checkpoint = {}, {}
    for f in files:
        if f.suffix == ".safetensors":
            from safetensors.torch import load_file
            sd.update(load_file(f))
            continue
        try:
            with torch.serialization.safe_globals([argparse.Namespace]):
                o = torch.load(f, map_location="cpu", weights_only=not a.trust_pickle)
        except Exception as e:
            raise Unable(f"{f}: {str(e).splitlines()[0]}", "--trust-pickle loads whatever it holds, if you trust where it is from") from None
        checkpoint.update({k: v for k, v in o.items() if k not in ("model", "state_dict", "optimizer")})
        while True:
            inner = next((o[k] for k in ("model", "state_dict", "model_state_dict", "module") if isinstance(o.get(k), dict)), None)
            if inner is None:
                break
            o = inner
        sd.update(o)
    for wrapper in ("_forward_module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.", "module."):
        sd = {k.replace(wrapper, ""): v for k, v in sd.items()}
    return {k: v for k, v in sd.items() if isinstance(v, torch.Tensor)}, checkpoint


# ------------------------------------------------------------------ loading, a function a framework
class Model:
    def __init__(self, module, layers, head, run, last_norm=None):
        self.module, self.layers, self.head, self.run, self.last_norm = module, layers, head, run, last_norm


def fill(module, sd, a, ignore=()):
    """The weights into a module: every name on both sides; types kept, or --dtype."""
    r = module.load_state_dict(sd, strict=False, assign=True)
    missing = [n for n in r.missing_keys if not n.endswith(ignore or "\0")]
    if missing or r.unexpected_keys:
        raise Unable("the weights do not fit the framework's module: " + "; ".join(
            f"{k} {', '.join(v[:4])}{' …' if len(v) > 4 else ''}" for k, v in (("missing", missing), ("unexpected", r.unexpected_keys)) if v))
    import torch
    if a.dtype != "auto":
        module.to(getattr(torch, a.dtype))
    return module.to(a.device).eval()


def need_checkout(a, what, url):
    if not a.checkout:
        raise Unable(f"{what} is no package", f"git clone {url} and name it with --checkout")
    if not Path(a.checkout).is_dir():
        raise Unable(f"--checkout {a.checkout} is no folder")
    return os.path.abspath(a.checkout)


def auto(a, c):
    """transformers and flash-linear-attention: their own from_pretrained."""
    import torch
    import transformers
    dtype = "auto" if a.dtype == "auto" else getattr(torch, a.dtype)
    source, name = transformers, None
    if a.framework == "fla":
        if a.stand_ins:
            from weighbridge import _standins as standins  # noqa: F401
        import fla.models as source
        name = ((c or {}).get("architectures") or [None])[0]
        if c is not None and not hasattr(source, name or ""):
            raise Unable(f"this flash-linear-attention has no class {name}", "config.json's architectures names the class")
    cls = getattr(source, name or ((c or {}).get("architectures") or [""])[0], transformers.AutoModelForCausalLM)
    transformers.utils.logging.disable_progress_bar()
    more = {"config": a.config} if a.config else {}
    if source is transformers and int(transformers.__version__.split(".")[0]) >= 5 and any("experts" in k for k in c or {}):
        more["experts_implementation"] = "eager"  # the plain equations: grouped products want widths of whole vectors
    try:
        m, info = cls.from_pretrained(a.model, dtype=dtype, output_loading_info=True, **more)
    except (OSError, ValueError, KeyError) as e:
        raise Unable(f"{cls.__name__}.from_pretrained: {str(e).splitlines()[0]}") from None
    bad = {k: v for k, v in info.items() if v}
    if bad:
        raise Unable("the weights do not fit: " + "; ".join(f"{k} {sorted(map(str, v))[:4]}" for k, v in bad.items()))
    m.to(a.device).eval()
    count = getattr(m.config.get_text_config(), "num_hidden_layers", None)
    lists = [x for _, x in m.named_modules() if isinstance(x, torch.nn.ModuleList) and len(x) == count]
    if not lists:
        raise Unable(f"{type(m).__name__} holds no list of its {count} layers")
    return Model(m, lists[0], m.get_output_embeddings(), lambda ids: m(ids, use_cache=False).logits)


def lit_gpt(a, c):
    checkout = need_checkout(a, "lit_gpt", "https://github.com/microsoft/Samba")
    from contextlib import nullcontext
    if a.stand_ins:
        from weighbridge import _standins as standins
        lit, place = standins.samba(checkout), standins.OnCPU(a.device)
    else:
        sys.path.insert(0, checkout)
        import lit_gpt as lit
        import lit_gpt.model  # noqa: F401
        place = nullcontext()
    sd, checkpoint = state_dict(a)
    if c is None:
        hparams = checkpoint.get("hparams") or {}
        name = hparams.get("model_name") or hparams.get("name")
        if not name:
            raise Unable("no lit_config.json, and the checkpoint does not say which of lit_gpt's named models it is", "give --config")
        config = lit.Config.from_name(name)
    else:
        fields = lit.Config.__dataclass_fields__
        config = lit.Config(**{k: v for k, v in c.items() if k in fields})
    if a.stand_ins:
        config.fused_add_norm = False
    config.residual_in_fp32 = config.residual_in_fp32 and a.dtype != "float64"
    with place:
        m = lit.GPT(config)
    if "lm_head.weight" not in sd and getattr(m, "mamba_init", False):
        sd["lm_head.weight"] = sd["transformer.wte.weight"]
    fill(m, sd, a)
    return Model(m, m.transformer.h, m.lm_head, lambda ids: m(ids).logits)


def archscale(a, c):
    """microsoft/ArchScale's GPT of 2026, which also holds the fused projections of July 2025; always with plain equations for its kernels."""
    from contextlib import nullcontext
    checkout = need_checkout(a, "ArchScale", "https://github.com/microsoft/ArchScale")
    from weighbridge import _standins as standins
    Config, GPT = standins.archscale(checkout)
    sd, _ = state_dict(a)
    if c is None:
        raise Unable("no archscale_config.json", "weighbridge convert MODEL DIRECTORY --to archscale writes one from the checkpoint's hparams; or give --config")
    for key, only, why in (("mlp", True, "its forward fails without MLPs"), ("condense_ratio", 1, "it has no condense_ratio")):
        if c.get(key, only) != only:
            raise Unable(f"{key} is {c[key]}: ArchScale's newest commit cannot run it, {why}")
    if "separate_qkv" not in c:
        c = {**c, "separate_qkv": False, "depth_scale": bool(c.get("mup") and not c.get("original_mup"))}
    with standins.OnCPU(a.device):
        m = GPT(Config(**{k: v for k, v in c.items() if k in Config.__dataclass_fields__}))
    if c.get("tied_embed"):
        sd.setdefault("lm_head.weight", sd.get("transformer.wte.weight"))
    fill(m, sd, a)
    rounds = m.lm_head.weight.dtype.itemsize == 2

    def run(ids):
        with nullcontext() if rounds else standins.Unrounded():
            return m(ids).logits
    # muP's factor is between the norm and the head.
    return Model(m, m.transformer.h, m.lm_head, run, m.transformer.ln_f)


def torchscale(a, c):
    checkout = need_checkout(a, "torchscale of a version known to fit", "https://github.com/microsoft/torchscale")
    from weighbridge import _standins as standins
    import torch
    Config, Decoder = standins.torchscale(checkout)
    sd, checkpoint = state_dict(a)
    if c is None:
        c = checkpoint.get("args") or (checkpoint.get("cfg") or {}).get("model")
        if c is None:
            raise Unable("neither a config.json nor args in the checkpoint", "give --config")
        c = dict(c) if isinstance(c, dict) else vars(c)
    sd = {k.removeprefix("decoder."): v for k, v in sd.items() if not k.endswith("version")}
    c.setdefault("vocab_size", 1)
    args = Config(**c)
    args.vocab_size, width = sd["embed_tokens.weight"].shape
    m = fill(Decoder(args, torch.nn.Embedding(args.vocab_size, width)), sd, a)
    return Model(m, m.layers, m.output_projection, lambda ids: m(ids)[0])


def mamba_ssm(a, c):
    import torch
    sd, _ = state_dict(a)
    if not a.stand_ins:
        from mamba_ssm.models.config_mamba import MambaConfig as Config
        from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel as Class
    else:
        checkout = need_checkout(a, "mamba_ssm without its kernels", "https://github.com/state-spaces/mamba")
        from weighbridge import _standins as standins
        Config, Class = standins.mamba(checkout)
        if c.get("attn_layer_idx") or (c.get("ssm_cfg") or {}).get("layer", "Mamba1") != "Mamba1":
            raise Unable("mamba_ssm's attention and Mamba-2 run on a GPU only", "or convert to fla with weighbridge, and capture that")
        c = {**c, "fused_add_norm": False}
    if a.dtype == "float64":
        c = {**c, "residual_in_fp32": False}
    m = Class(Config(**c))
    if c.get("tie_embeddings", True):
        sd["lm_head.weight"] = sd["backbone.embedding.weight"]
    fill(m, sd, a)
    return Model(m, m.backbone.layers, m.lm_head, lambda ids: m(ids).logits)


def berlino(a, c):
    checkout = need_checkout(a, "gated_linear_attention", "https://github.com/berlino/gated_linear_attention")
    from weighbridge import _standins as standins
    Config, Class = standins.berlino(checkout)
    known = ("d_model", "n_head", "n_layer", "use_gk", "use_gv", "context_length", "vocab_size")
    m = Class(Config(**{k: v for k, v in c.items() if k in known}))
    fill(m, state_dict(a)[0], a)
    return Model(m, m.transformer.h, m.lm_head, lambda ids: m(ids).logits)


LOADERS = {"hf": auto, "fla": auto, "lit_gpt": lit_gpt, "archscale": archscale, "torchscale": torchscale, "mamba_ssm": mamba_ssm, "berlino": berlino}


# ------------------------------------------------------------------ tokens
def size(text):
    try:
        b, t = (int(x) for x in text.lower().split("x"))
        if b > 0 and t > 0:
            return b, t
    except ValueError:
        pass
    raise Unable(f"--random {text}: sequences x length, as in 2x48")


def tokens(a, vocabulary):
    import torch
    if a.tokens:
        if a.tokens.endswith(".safetensors"):
            from safetensors import safe_open
            with safe_open(a.tokens, "pt") as f:
                if "input_ids" not in f.keys():
                    raise Unable(f"{a.tokens} holds no input_ids")
                ids = f.get_tensor("input_ids").long()
        else:
            try:
                ids = torch.tensor(json.loads(Path(a.tokens).read_text()), dtype=torch.long)
            except (OSError, ValueError, TypeError) as e:
                raise Unable(f"{a.tokens}: {e}", "a JSON array of arrays of one length") from None
        ids = ids if ids.dim() == 2 else ids[None]
    elif a.text:
        b, t = size(a.random)
        text = Path(a.text).read_bytes()
        if a.tokenizer == "bytes":
            found = list(text)
        else:
            import transformers
            try:
                found = transformers.AutoTokenizer.from_pretrained(a.tokenizer or a.model)(text.decode())["input_ids"]
            except (OSError, ValueError, TypeError, KeyError) as e:
                raise Unable(f"no tokenizer at {a.tokenizer or a.model}: {str(e).splitlines()[0]}", "name one with --tokenizer; 'bytes' for models of bytes") from None
        if len(found) < b * t:
            raise Unable(f"{a.text} has {len(found)} tokens, fewer than {b} x {t}", "ask for less with --random BxT")
        ids = torch.tensor(found[:b * t]).view(b, t)
    else:
        b, t = size(a.random)
        ids = torch.randint(0, vocabulary, (b, t), generator=torch.Generator().manual_seed(a.seed))
    if int(ids.max()) >= vocabulary or int(ids.min()) < 0:
        raise Unable(f"token {int(ids.max())} is outside the vocabulary of {vocabulary}")
    return ids


# ------------------------------------------------------------------ the forward pass
def stream(args, kwargs, names):
    """The residual stream among a layer's or norm's arguments: what is passed, and what is still to be added to it."""
    x = args[0] if args else next(kwargs[n] for n in names if n in kwargs)
    residual = kwargs.get("residual", args[1] if len(args) > 1 and "residual" in names else None)
    return x if residual is None else x + residual


def forward(model, ids, device):
    import inspect
    import torch
    out, hooks, sublayer = {}, [], 0

    def keep(name, x):
        out.setdefault(name, x.detach().to("cpu", copy=True).contiguous())

    def parameters(m):
        return [n for n in inspect.signature(m.forward).parameters if n in ("residual", "x", "hidden_states", "input", "prenorm")]

    for i, layer in enumerate(model.layers):
        names = parameters(layer)
        hooks.append(layer.register_forward_pre_hook(
            lambda m, args, kwargs, i=i, names=names: keep(f"hidden_states.{i}", stream(args, kwargs, names)), with_kwargs=True))
        norms = [getattr(layer, n) for n in PRENORMS if isinstance(getattr(layer, n, None), torch.nn.Module)]
        count = len(norms) + (hasattr(getattr(layer, "attn", None), "move"))  # S6-Mega has its norm inside
        # Two mixers over one norm (Falcon-H1) are two sub-layers, between which no norm sees the stream.
        beside = all(isinstance(getattr(layer, n, None), torch.nn.Module) for n in ("mamba", "self_attn"))
        # A layer that adds later (x and residual side by side) has no norm that sees the stream.
        for j, norm in enumerate(norms[1:] if count == len(norms) else norms) if "residual" not in names else ():
            hooks.append(norm.register_forward_pre_hook(
                lambda m, args, kwargs, k=sublayer + j + beside, names=parameters(norm): keep(f"sublayer.{k}", stream(args, kwargs, names)), with_kwargs=True))
        sublayer += count + beside

    def leaving(m, args, kwargs, y):
        first, second = (y[0], y[1] if len(y) > 1 else None) if isinstance(y, tuple) else (y, None)
        keep(f"hidden_states.{len(model.layers)}", first if second is None or "residual" not in parameters(m) else first + second)
    hooks.append(model.layers[-1].register_forward_hook(leaving, with_kwargs=True))
    if model.last_norm is None:
        hooks.append(model.head.register_forward_pre_hook(lambda m, args: keep("final_norm", args[0])))
    else:
        hooks.append(model.last_norm.register_forward_hook(lambda m, args, y: keep("final_norm", y)))
    with torch.no_grad():
        logits = model.run(ids.to(device))
    for h in hooks:
        h.remove()
    keep("logits", logits)
    lost = [n for n in ("hidden_states.0", f"hidden_states.{len(model.layers)}", "final_norm") if n not in out]
    if lost:
        raise Unable(f"no hook saw {', '.join(lost)}: this model does not run its layers one after the other")
    return out


def widened(torch):
    """In float64 also what a framework's PyTorch code casts to float32 inside; kernels compute as they do."""
    class Float64(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, f, types, args=(), kwargs=None):
            wide = lambda x: torch.float64 if x is torch.float32 else x  # noqa: E731
            if f is torch.Tensor.float:
                return args[0].double()
            return f(*(wide(x) for x in args), **{k: wide(v) for k, v in (kwargs or {}).items()})
    return Float64()


def capture(a):
    if str(a.model).startswith(("/", ".", "~")) and not Path(a.model).exists():
        raise Unable(f"there is no file or directory {a.model}")
    c = read_config(a)
    if not a.framework:
        a.framework = told_framework(c) or (("lit_gpt" if list(Path(a.model).glob("*.pth")) else None) if Path(a.model).is_dir() else "hf")
        if not a.framework:
            raise Unable(f"the config of {a.model} tells no framework", f"--framework, one of {', '.join(FRAMEWORKS)}")
    os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")  # Triton's float32 products would be TensorFloat-32's
    import torch
    a.device = a.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if a.device.startswith("cuda") and not torch.cuda.is_available():
        raise Unable(f"--device {a.device}: PyTorch sees no GPU", "--device cpu runs it with plain equations")
    if a.device == "cpu":
        a.stand_ins = True
    os.environ["TRITON_INTERPRET"] = "1" if a.device == "cpu" else "0"
    try:
        model = LOADERS[a.framework](a, c)
    except ModuleNotFoundError as e:
        raise Unable(f"{a.framework} needs the Python module {e.name}", f"pip install {e.name.split('.')[0]}" + ("" if a.stand_ins else ", or --stand-ins for plain equations in place of kernels")) from None
    kinds = Counter()
    for p in model.module.parameters():
        kinds[p.dtype] += p.numel()
    dtype = kinds.most_common(1)[0][0]
    ids = tokens(a, model.module.get_input_embeddings().num_embeddings if hasattr(model.module, "get_input_embeddings") else model.head.weight.shape[0])
    if a.framework == "fla" and a.device == "cpu" and ids.shape[1] + a.generate > 64:
        raise Unable(f"{ids.shape[1] + a.generate} tokens: flash-linear-attention's kernels for more than 64 need a GPU", "--random 2x48")
    from contextlib import nullcontext
    with widened(torch) if dtype == torch.float64 else nullcontext():
        try:
            out = forward(model, ids, a.device)
        except Exception as e:
            if not type(e).__module__.startswith("triton"):
                raise
            raise Unable(f"a Triton kernel of {a.framework} failed in {str(dtype).removeprefix('torch.')}: {str(e).strip().splitlines()[-1]}",
                         "kernels take float32: --dtype float32" if dtype == torch.float64 else None) from None
        if a.generate:
            greedy = ids[:1]
            for _ in range(a.generate):
                with torch.no_grad():
                    greedy = torch.cat([greedy, model.run(greedy.to(a.device))[:, -1].argmax(-1, keepdim=True).cpu()], 1)
            out["greedy"] = greedy
    out["input_ids"] = ids.contiguous()
    metadata = {"format": "pt", "framework": a.framework, "class": type(model.module).__name__, "dtype": str(dtype).removeprefix("torch."), "device": a.device,
                "torch": torch.__version__, "kernels": "stand-ins" if a.stand_ins and a.framework != "hf" else "the framework's own"}
    from safetensors.torch import save_file
    save_file(out, a.out, metadata=metadata)
    bad = [n for n, x in out.items() if x.is_floating_point() and not torch.isfinite(x).all()]
    logits = out["logits"].double().log_softmax(-1)
    nll = -logits[:, :-1].gather(-1, ids[:, 1:, None]).mean().item() if ids.shape[1] > 1 else float("nan")
    print(f"{a.out}: {metadata['class']} ({a.framework}), {len(model.layers)} layers, {ids.shape[0]} x {ids.shape[1]} tokens, {metadata['dtype']} on {a.device}"
          f"{', stand-ins for kernels' if metadata['kernels'] == 'stand-ins' else ''}; mean negative log-likelihood {nll:.4f}")
    if bad:
        print(f"warning: not all values are finite, first in {bad[0]}", file=sys.stderr)
    return 0


def main():
    a = arguments()
    try:
        return capture(a)
    except Unable as e:
        print(f"weighbridge-capture: error: {e}" + (f"\n  help: {e.help}" if e.help else ""), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
