"""What the documents show of Python runs."""
import ast
import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import weighbridge as wb

ROOT = Path(__file__).resolve().parents[2]


def blocks(document):
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.S)


def test_the_readme_converts_compares_and_catches_a_refusal(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, model in (("iter-100000-ckpt.pth", "lit-samba"), ("nope.pth", "lit-samba-gqa-nope")):
        (tmp_path / name).symlink_to(models / model / "lit_gpt")
    out = io.StringIO()
    (code,) = blocks("python/README.md")
    with contextlib.redirect_stdout(out):
        exec(code, {})
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("rounding ('mlp is widened from 96 to 256")
    # The two compute the same, so nothing is printed of a divergence.
    assert [line.split()[:2] for line in lines[1:]] == [["convert.inexpressible", "attention.rope_base"]]


def test_what_the_guide_loads_is_the_model_that_was_converted(models, tmp_path):
    wb.convert(models / "lit-samba" / "lit_gpt", tmp_path / "samba-fla", to="fla")
    (code,) = blocks("docs/convert-lit_gpt-to-fla.md")
    # flash-linear-attention's attention asks for flash-attn, which needs a GPU: plain equations stand in.
    before = "from weighbridge import _standins\n"
    after = "print({n: tuple(t.shape) for n, t in model.state_dict().items()})"
    done = subprocess.run(
        [sys.executable, "-c", before + code + after], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = ast.literal_eval(done.stdout.splitlines()[-1])
    tensors = wb.inspect(tmp_path / "samba-fla").tensors
    assert tensors and all(loaded[t.name] == t.shape for t in tensors)
