#!/usr/bin/env python3
"""Makes Fixtures/bad/config/<layout>/<code>__<what>.json and Fixtures/bad/layout/<code>__<what>.yaml:
configs and layout files that ask for more than there is, each refused with the code in its name.
Standard library only."""
import json
import pathlib

fixtures = pathlib.Path(__file__).resolve().parent.parent
models = fixtures / "models"


def config(layout, name, source, text=None, **changes):
    """`source`'s config with keys changed; `text` replaces the placeholder "X" afterwards."""
    directory = fixtures / "bad" / "config" / layout
    directory.mkdir(parents=True, exist_ok=True)
    values = json.loads((models / source / "config.json").read_text())
    values.update(changes)
    document = json.dumps(values, indent=1)
    if text:
        document = document.replace('"X"', text)
    (directory / f"{name}.json").write_text(document + "\n")


samba = "samba-fla/fla"
# Ten thousand layers of a model that has four would be a message for each of their tensors.
config("samba-fla", "config.value__a-billion-layers", samba, num_hidden_layers=10**9)
config("samba-fla", "config.value__layers-beyond-the-tensors", samba, num_hidden_layers=10_000)
config("samba-fla", "config.value__width-negative", samba, hidden_size=-64)
# Sums of rows would overflow 64 bits.
config("samba-fla", "config.value__width-2-to-the-61", samba, hidden_size=2**61)
config("samba-fla", "config.value__rows-2-to-the-62", samba, vocab_size=2**62)
config("samba-fla", "config.value__width-of-5000-digits", samba, "9" * 5000, hidden_size="X")
config("samba-fla", "config.value__width-1e400", samba, "1e400", hidden_size="X")
config("samba-fla", "config.value__width-nan", samba, "NaN", hidden_size="X")
config("samba-fla", "config.value__layers-1e300", samba, num_hidden_layers=1e300)
config("samba-fla", "json.marks__in-a-key", samba, **{"a" + "\u0301\u0316" * 50: 1})
config("samba-fla", "json.depth__a-thousand-lists", samba, "[" * 1000 + "]" * 1000, attn="X")
# Found by checks/fuzz --libfuzzer config: rows were listed head by head before anything was compared.
config("retnet-torchscale", "layout.glue__four-billion-heads", "retnet-torchscale/torchscale",
       decoder_retention_heads=2**32, decoder_embed_dim=2**33, decoder_value_embed_dim=2**33)
config("retnet-torchscale", "layout.glue__rows-2-to-the-40", "retnet-torchscale/torchscale",
       decoder_retention_heads=1, decoder_embed_dim=2**40, decoder_value_embed_dim=2**40)

layouts = fixtures / "bad" / "layout"
layouts.mkdir(parents=True, exist_ok=True)
laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
laughs += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 12)]
(layouts / "layout.yaml__a-trillion-aliases.yaml").write_text("\n".join(laughs) + "\n")
(layouts / "layout.yaml__ten-thousand-brackets.yaml").write_text("a: " + "[" * 10_000 + "\n")
(layouts / "layout.yaml__ten-thousand-braces.yaml").write_text("a: " + "{a: " * 10_000 + "\n")
(layouts / "layout.yaml__ten-thousand-dashes.yaml").write_text("- " * 10_000 + "a\n")
(layouts / "layout.yaml__ten-thousand-question-marks.yaml").write_text("? " * 10_000 + "a\n")
(layouts / "layout.yaml__blocks-600-deep.yaml").write_text(
    "".join(" " * i + "a:\n" for i in range(600)))
(layouts / "layout.yaml__empty.yaml").write_text("")
(layouts / "layout.yaml__alias-of-nothing.yaml").write_text("a: *b\n")
(layouts / "layout.schema__root-is-a-list.yaml").write_text("- a\n- b\n")
# Keys are compared in a normal form whose marks are sorted: that takes the square of a run's length.
marks = "\u0301\u0316" * 50
(layouts / "layout.yaml__a-hundred-marks.yaml").write_text(f"a{marks}: 1\n", "utf-8")
(layouts / "layout.yaml__two-thousand-marks-by-their-numbers.yaml").write_text(
    '"a' + "\\u0301\\u0316" * 1000 + '": 1\n')
