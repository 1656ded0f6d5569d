# %% [markdown]
# Train, save, convert, load elsewhere, generate. Runs top to bottom, in a notebook or as a script, without a GPU.

# %%
import os
from pathlib import Path

import torch
import weighbridge
from safetensors.torch import load_file

if not torch.cuda.is_available():
    # Stand-ins for flash-linear-attention's GPU kernels; before transformers, which imports Triton.
    from weighbridge import _standins  # noqa: F401
from fla.models import MambaForCausalLM as FlaMamba
from fla.models import SambaForCausalLM
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM

WORK = Path(os.environ.get("WORK", "train-convert-generate"))
TEXT = b"a weighbridge weighs a truck before and after. " * 40
torch.manual_seed(0)


def batches(steps, length=24):
    ids = torch.tensor(list(TEXT))
    for _ in range(steps):
        starts = torch.randint(0, len(ids) - length, (4,))
        yield torch.stack([ids[s:s + length] for s in starts.tolist()])


def train(model, steps=40, rate=1e-2):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for ids in batches(steps):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.detach())


# %% A tiny Mamba of bytes, trained and saved by transformers
model = MambaForCausalLM(MambaConfig(vocab_size=256, hidden_size=48, num_hidden_layers=2, state_size=16, tie_word_embeddings=False))
print(f"loss after training: {train(model):.3f}")
model.save_pretrained(WORK / "hf")

# %% To flash-linear-attention's layout; verify=True runs both before anything appears
done = weighbridge.convert(WORK / "hf", WORK / "fla", to="fla", verify=True, force=True, progress=lambda p: print(f"{p.done} of {p.total} bytes"))
print(done.exactness, done.reasons)

# %% Loaded and run by flash-linear-attention
other = FlaMamba.from_pretrained(WORK / "fla", dtype=torch.float32).eval()
prompt = torch.tensor([list(TEXT[:16])])
with torch.no_grad():
    ours, theirs = model.eval()(prompt).logits, other(prompt).logits
difference = float((ours - theirs).abs().max() / ours.abs().max())
print(f"largest difference of the logits: {difference:.1e} of the largest")
assert difference < 1e-5, difference  # float32, two implementations of one recurrence


def continued(m, count=24):
    ids = prompt
    with torch.no_grad():
        for _ in range(count):
            ids = torch.cat([ids, m(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return bytes(ids[0].tolist())


text = continued(other)
print(text.decode(errors="replace"))
assert text == continued(model)
# weighbridge's own engine reads either layout and says the same
assert bytes(weighbridge.generate(WORK / "fla", prompt.tolist(), 24).tokens[0]) == text
assert weighbridge.parity(WORK / "hf", WORK / "fla", tokens=prompt.tolist())

# %% And to mamba_ssm's, where the way back gives the same bytes
weighbridge.convert(WORK / "fla", WORK / "mamba_ssm", to="mamba_ssm", force=True)
back = weighbridge.convert(WORK / "mamba_ssm", WORK / "back", to="hf", force=True)
a, b = model.state_dict(), AutoModelForCausalLM.from_pretrained(WORK / "back").state_dict()
assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a), "a way round changes nothing"
print(f"back from mamba_ssm: {back.exactness}, every tensor equal")

# %% A model of microsoft/Samba's trainer to flash-linear-attention, which generates with it
samba = os.environ.get("SAMBA", str(Path(__file__).resolve().parents[2] / "Fixtures/models/lit-samba/lit_gpt"))
print(weighbridge.inspect(samba).family, weighbridge.convert(samba, WORK / "samba-fla", to="fla", verify=True, force=True).reasons)
m = SambaForCausalLM.from_pretrained(WORK / "samba-fla", dtype=torch.float32).eval()
ids = torch.arange(20)[None]
with torch.no_grad():
    mine = m(ids).logits
weighbridge.trace(WORK / "samba-fla", WORK / "samba.safetensors", tokens=ids.tolist(), precision="float32")
stages = load_file(WORK / "samba.safetensors")
difference = float((stages["logits"] - mine).abs().max() / mine.abs().max())
print(f"fla's logits and weighbridge's: {difference:.1e} of the largest apart")
assert difference < 1e-5, difference

# %% What cannot be expressed is refused by name, not converted wrongly
try:
    weighbridge.convert(Path(samba).parents[1] / "lit-samba-gqa-nope/lit_gpt", WORK / "nope", to="fla")
except weighbridge.Refused as refusal:
    print(refusal)
else:
    raise AssertionError("a model without rotation should be refused by fla")
