"""A folder loaded strictly by the framework's own class, and run in float32."""
import torch
from weighbridge import _standins as standins

from . import files as F

CHECKOUTS = {}  # "lit_gpt", "torchscale": what standins made of the checkouts


class Loaded:
    def __init__(self, module, complaints, layers, norm, logits):
        self.module, self.complaints, self.layers, self.norm, self.logits = module.eval(), complaints, layers, norm, logits

    def trace(self, ids):
        """The trace format of the tool, in float32, from hooks."""
        out, hooks = {"input_ids": ids}, []

        def entering(i):
            def f(m, args, kwargs):
                x = args[0] if args else kwargs["hidden_states"]
                if type(m).__name__ == "MBlock" and args[1] is not None:
                    x = x + args[1]
                out[f"hidden_states.{i}"] = x.detach().clone()
            return f
        for i, layer in enumerate(self.layers):
            hooks.append(layer.register_forward_pre_hook(entering(i), with_kwargs=True))
        hooks.append(self.norm.register_forward_pre_hook(lambda m, a: out.update({f"hidden_states.{len(self.layers)}": a[0].detach().clone()})))
        hooks.append(self.norm.register_forward_hook(lambda m, a, y: out.update(final_norm=y.detach().clone())))
        with torch.no_grad():
            out["logits"] = self.logits(ids).float()
        for h in hooks:
            h.remove()
        return {k: v.contiguous() for k, v in out.items()}


def auto(folder, layout):
    import transformers
    c = F.config(folder)
    if layout == "fla":
        import fla.models as source
    else:
        source = transformers
    m, info = getattr(source, c["architectures"][0]).from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    bad = [f"{k}: {sorted(map(str, v))[:4]}" for k, v in info.items() if v]
    base = m.backbone if hasattr(m, "backbone") else m.model
    norm = base.norm_f if hasattr(base, "norm_f") else base.norm
    return Loaded(m, bad, base.layers, norm, lambda ids: m(ids, use_cache=False).logits)


def strict(m, sd):
    r = m.load_state_dict(sd, strict=False)
    return [f"{k}: {v[:4]}" for k, v in (("missing", r.missing_keys), ("unexpected", r.unexpected_keys)) if v]


def lit_gpt(folder, float_rope=False):
    lit = CHECKOUTS["lit_gpt"]
    c = F.config(folder)
    fields = lit.Config.__dataclass_fields__
    bad = [f"unknown config key {k}" for k in c if k not in fields]
    c = {k: v for k, v in c.items() if k in fields}
    with standins.OnCPU():
        m = lit.GPT(lit.Config(**{**c, "fused_add_norm": False}))
    sd = {k: v.float() for k, v in F.weights(folder).items()}
    if float_rope:
        m.build_rope_cache = lambda idx, n: lit.model.build_rope_cache(n, int(m.config.rotary_percentage * m.config.head_size), torch.float32,
                                                                       idx.device, condense_ratio=m.config.condense_ratio)
    bad += strict(m, sd)
    return Loaded(m, bad, m.transformer.h, m.transformer.ln_f, lambda ids: m(ids).logits)


def torchscale(folder):
    Config, Decoder = CHECKOUTS["torchscale"]
    c = F.config(folder)
    c.setdefault("vocab_size", 1)
    args = Config(**c)
    sd = {k.removeprefix("decoder."): v.float() for k, v in F.weights(folder).items()}
    args.vocab_size, d = sd["embed_tokens.weight"].shape
    m = Decoder(args, torch.nn.Embedding(args.vocab_size, d))
    bad = strict(m, sd)
    return Loaded(m, bad, m.layers, m.layer_norm, lambda ids: m(ids)[0])


def mamba_ssm(folder):
    """Complaints about names and shapes; the class itself needs a GPU."""
    Config, Class = CHECKOUTS["mamba_ssm"]
    want = {k: tuple(v.shape) for k, v in Class(Config(**F.config(folder)), device="meta").state_dict().items()}
    have = {k: tuple(v.shape) for k, v in F.weights(folder).items()}
    return [f"{k}: {have.get(k)}, not {want.get(k)}" for k in sorted(want.keys() | have.keys()) if want.get(k) != have.get(k)]


def load(folder, layout, float_rope=False):
    """None where the framework is not at hand."""
    if layout in ("hf", "fla"):
        return auto(folder, layout)
    if layout == "lit_gpt" and "lit_gpt" in CHECKOUTS:
        return lit_gpt(folder, float_rope)
    if layout == "torchscale" and "torchscale" in CHECKOUTS:
        return torchscale(folder)
    return None
