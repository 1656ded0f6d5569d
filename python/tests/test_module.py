"""The module against the program, on small checkpoints of every kind."""
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import threading

import pytest

import weighbridge as wb


def test_inspect_tells_the_layout_and_every_tensor(models):
    found = wb.inspect(models / "samba-fla" / "fla")
    assert (found.layout, found.family, found.container) == ("fla", "samba", "safetensors")
    assert found.parameters == 299840
    assert found.config["n_kv_heads"] == 2
    assert [s["kind"] for s in found.sublayers] == ["mamba", "mlp", "attention", "mlp"] * 2
    head = next(t for t in found.tensors if t.name == "lm_head.weight")
    assert (head.shape, head.dtype, head.bytes, head.mean) == ((100, 64), "F32", 25600, None)


def test_statistics_and_filter(models):
    import numpy
    from safetensors.numpy import load_file
    found = wb.inspect(models / "samba-fla" / "fla", stats=True, filter="*.A_log")
    weights = load_file(models / "samba-fla" / "fla" / "model.safetensors")
    assert [t.name for t in found.tensors] == sorted(n for n in weights if n.endswith("A_log"))
    for tensor in found.tensors:
        assert tensor.max == weights[tensor.name].max()
        assert tensor.mean == pytest.approx(weights[tensor.name].astype(numpy.float64).mean(), rel=1e-12)
        assert tensor.nan == 0


def test_convert_then_parity_and_diff(models, tmp_path):
    source = models / "lit-samba" / "lit_gpt"
    done = wb.convert(source, tmp_path / "fla", "fla", verify=True)
    assert (done.from_, done.to, done.exactness, done.tensors) == ("lit_gpt", "fla", "rounding", 48)
    assert any("bfloat16" in reason for reason in done.reasons)
    assert sorted(os.path.basename(p) for p in done.outputs) == ["config.json", "model.safetensors"]
    result = wb.parity(source, tmp_path / "fla", random=(2, 16), seed=1)
    assert result and result.passed and result.tokens == (2, 16)
    assert result.first_divergence is None
    assert all(stage.ok and stage.max_abs <= stage.bound for stage in result.stages)
    same = wb.diff(source, tmp_path / "fla")
    assert same and same.differing == () and len(same.pieces) == 54


def test_a_planted_fault_is_a_result_not_an_exception(models, faulty):
    result = wb.parity(models / "samba-fla" / "fla", faulty / "samba-fla-heads-swapped", random=(1, 16))
    assert not result and result.verdict == "fail"
    assert result.first_divergence.stage == "hidden_states.2"
    assert result.first_divergence.suspects == ("backbone.layers.1.mixer.q_proj.weight",)
    assert result.first_divergence.proven
    different = wb.diff(models / "samba-fla" / "fla", faulty / "samba-fla-heads-swapped")
    assert not different
    assert [p.b for p in different.differing] == [("backbone.layers.1.mixer.q_proj.weight",)]


def test_a_framework_s_trace(models):
    result = wb.parity(models / "tiny-samba" / "fla", trace=models / "tiny-samba" / "trace.safetensors", generate=48)
    assert result and result.generation.equal
    assert result.logits.nll_a == pytest.approx(0.8125, abs=1e-3)


def test_a_refusal_names_what_cannot_be_said(models, tmp_path):
    with pytest.raises(wb.Refused) as refused:
        wb.convert(models / "lit-samba-gqa-nope" / "lit_gpt", tmp_path / "out", "fla")
    error = refused.value
    assert error.exit_code == 1
    assert [(p.code, p.subject) for p in error.problems] == [("convert.inexpressible", "attention.rope_base")]
    assert "nope is true" in str(error) and "help:" in str(error)
    assert not (tmp_path / "out").exists()
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_bad_input_and_bad_arguments(models, tmp_path):
    with pytest.raises(wb.Failed) as failed:
        wb.inspect(tmp_path / "nothing")
    assert failed.value.problems[0].code == "checkpoint.not-found" and failed.value.exit_code == 2
    with pytest.raises(wb.UsageError) as usage:
        wb.convert(models / "samba-fla" / "fla", tmp_path / "out", "fla", container="gguf")
    assert usage.value.exit_code == 64 and isinstance(usage.value, ValueError)
    with pytest.raises(wb.Error):
        wb.convert(models / "samba-fla" / "fla", tmp_path / "out", "nonsense")
    with pytest.raises(wb.UsageError):
        wb.parity(models / "samba-fla" / "fla")


def test_results_cannot_be_changed(models):
    found = wb.inspect(models / "samba-fla" / "fla")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.layout = "hf"
    assert found.raw["layout"] == "fla"


def test_a_dry_run_writes_nothing(models, tmp_path):
    done = wb.convert(models / "lit-samba" / "lit_gpt", tmp_path / "out", "fla", dry_run=True)
    assert done.tensors == 48 and len(done.outputs) == 2
    assert list(tmp_path.iterdir()) == []


def test_progress_is_called_up_to_the_end(models, tmp_path):
    seen = []
    done = wb.convert(models / "lit-samba" / "lit_gpt", tmp_path / "out", "fla", progress=seen.append)
    assert seen and seen[-1].done == seen[-1].total == done.bytes
    assert all(isinstance(p, wb.Progress) and p.tensor for p in seen)


def test_an_exception_in_progress_stops_the_conversion(models, tmp_path):
    class Enough(Exception):
        pass

    def stop(_):
        raise Enough
    with pytest.raises(Enough):
        wb.convert(models / "lit-samba" / "lit_gpt", tmp_path / "out", "fla", progress=stop)


def test_digests_are_checked(models, tmp_path):
    wb.convert(models / "samba-fla" / "fla", tmp_path / "out", "fla", sha256=True)
    assert wb.check(tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    damaged = wb.check(tmp_path / "out")
    assert not damaged and damaged.bad_tensors


def test_tokens_as_lists_as_a_file_and_generation(models, tmp_path):
    model = models / "tiny-samba" / "fla"
    prompt = [list(b"the quick brown ")]
    out = wb.generate(model, prompt, 8)
    assert out.tokens[0][:16] == tuple(prompt[0]) and len(out.tokens[0]) == 24
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(prompt))
    assert wb.generate(model, file, 8).tokens == out.tokens
    trace = wb.trace(model, tmp_path / "trace.safetensors", tokens=prompt)
    assert wb.parity(model, trace=trace).passed


def test_layouts_by_framework():
    known = wb.layouts()
    assert {"hf", "fla", "mamba_ssm", "lit_gpt", "torchscale", "berlino"} <= {layout.framework for layout in known}
    (samba,) = wb.layouts("samba-fla")
    assert any(key.name == "hidden_size" and key.default == 2304 for key in samba.config_keys)


def test_paths_with_spaces_and_dashes(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = wb.convert(models / "samba-fla" / "fla", "-a b ü", "fla")
    assert (tmp_path / "-a b ü" / "model.safetensors").exists() and done.exactness == "bitwise"


def test_from_several_threads(models):
    results = {}

    def work(i):
        results[i] = wb.inspect(models / ("samba-fla" if i % 2 else "gla-base") / "fla").family
    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {i: "samba" if i % 2 else "gla" for i in range(6)}


def test_the_console_script_is_the_program(models):
    script = os.path.join(os.path.dirname(sys.executable), "weighbridge")
    shown = subprocess.run([script, "inspect", models / "samba-fla" / "fla"], capture_output=True, text=True)
    assert shown.returncode == 0 and "layout      fla (samba-fla)" in shown.stdout
    assert subprocess.run([script, "inspect", "/nothing"], capture_output=True).returncode == 2


def test_it_imports_nothing_but_the_standard_library():
    code = "import sys, weighbridge; print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'torch', 'safetensors', 'transformers')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_missing_program_is_told(monkeypatch, models):
    monkeypatch.setenv("WEIGHBRIDGE_BINARY", "/nothing/weighbridge")
    with pytest.raises(wb.Failed, match="/nothing/weighbridge"):
        wb.inspect(models / "samba-fla" / "fla")
