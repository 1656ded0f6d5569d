"""Weighbridge: convert checkpoints of sub-quadratic language models, and prove that nothing changed.

    >>> import weighbridge
    >>> done = weighbridge.convert("lit-samba", "samba-fla", to="fla", verify=True)
    >>> done.exactness, done.outputs
    >>> weighbridge.parity("lit-samba", "samba-fla", random=(2, 64), seed=1).passed

A checkpoint is a file or a folder. What cannot be expressed raises ``Refused``, bad input ``Failed``, a wrong argument ``UsageError``; each has
``problems``. Results are frozen dataclasses; ``raw`` is the program's own document.
"""
from __future__ import annotations

import contextlib
import json
import os
import tempfile
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple, Union

from ._binary import path as binary
from ._binary import run as _run
from ._errors import Error, Failed, Refused, UsageError
from ._results import (Check, ConfigKey, Continuations, Conversion, Diff, Divergence, Generation, Inspection, Layout, Logits, Parity, PieceDifference, Problem,
                       Progress, Stage, Tensor, Weights, build)
from ._version import __version__

__all__ = ["binary", "check", "convert", "diff", "generate", "inspect", "layouts", "parity", "trace", "Error", "Failed", "Refused", "UsageError", "Check",
           "ConfigKey", "Continuations", "Conversion", "Diff", "Divergence", "Generation", "Inspection", "Layout", "Logits", "Parity", "PieceDifference",
           "Problem", "Progress", "Stage", "Tensor", "Weights", "__version__"]

Path = Union[str, "os.PathLike[str]"]
#: A JSON file or a trace, or the tokens themselves.
Tokens = Union[Path, Sequence[Sequence[int]]]


def _options(**values: Any) -> List[str]:
    """``max_shard_size="5GB"`` as ``--max-shard-size 5GB``; ``None`` and ``False`` are left out, a list is given several times."""
    found: List[str] = []
    for name, value in values.items():
        option = "--" + name.rstrip("_").replace("_", "-")
        for v in value if isinstance(value, list) else [value]:
            if v is True:
                found.append(option)
            elif v is not None and v is not False:
                # A value that begins with a dash must not be read as an option.
                found.append(f"{option}={os.fspath(v) if isinstance(v, os.PathLike) else v}")
    return found


def _place(path: Path) -> str:
    """A path that cannot be read as an option."""
    text = os.fspath(path)
    return "./" + text if text.startswith("-") else text


@contextlib.contextmanager
def _token_file(tokens: Optional[Tokens]) -> Iterator[Optional[str]]:
    if tokens is None or isinstance(tokens, (str, os.PathLike)):
        yield None if tokens is None else os.fspath(tokens)
        return
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "tokens.json")
        with open(name, "w") as f:
            json.dump([[int(t) for t in row] for row in tokens], f)
        yield name


def _pair(value: Optional[Tuple[int, int]], separator: str) -> Optional[str]:
    return None if value is None else separator.join(str(v) for v in value)


def inspect(path: Path, *, stats: bool = False, layout: Optional[str] = None, filter: Optional[str] = None, config: Optional[Path] = None,
            preset: Optional[str] = None, key: Optional[str] = None, layout_files: Sequence[Path] = (), compat: bool = False, inert: Sequence[str] = (),
            report: Optional[Path] = None) -> Inspection:
    """What a checkpoint is: layout, config, stack of sub-layers, every tensor.

    ``stats`` adds the least, largest and mean value, spread, NaN, infinities and zeros of each tensor; ``filter`` lists only tensors whose name matches,
    ``*`` standing for anything; ``report`` also writes an HTML page. ``key`` chooses among several models in one file
    (``model_ema``); ``inert`` names config keys that are not known and change nothing.

    A checkpoint of which tensors are missing, or whose config does not fit, is told with errors among ``problems``; what cannot be read raises.
    """
    options = _options(stats=stats, layout=layout, filter=filter, config=config, preset=preset, key=key, layout_file=list(layout_files), compat=compat, inert=list(inert),
                       report=report)
    return build(Inspection, _run(["inspect", _place(path), *options]))


def convert(src: Path, dst: Path, to: str, *, from_: Optional[str] = None, container: Optional[str] = None, dtype: Optional[str] = None,
            cast_all: bool = False, allow_lossy: bool = False, vocab_size: Optional[int] = None, max_shard_size: Union[str, int, None] = None,
            ranks: Optional[int] = None, dcp_prefix: Optional[str] = None, dry_run: bool = False, force: bool = False, verify: bool = False,
            fsync: bool = True, sha256: bool = False, resume: bool = False, part: Optional[Tuple[int, int]] = None, finish: bool = False,
            config: Optional[Path] = None, preset: Optional[str] = None, key: Optional[str] = None, layout_files: Sequence[Path] = (),
            compat: bool = False, inert: Sequence[str] = (), progress: Optional[Callable[[Progress], None]] = None) -> Conversion:
    """Convert a checkpoint to another framework's layout (``hf``, ``fla``, ``mamba_ssm``, ``lit_gpt``, ``torchscale``, ``berlino``), container or type.

    ``dst`` is a folder that the framework loads as it is; it appears whole or not at all. ``verify`` runs what was written beside its source first.
    ``ranks`` and ``dcp_prefix`` belong to ``container="dcp"``. ``sha256`` writes the digests that ``check`` compares with. ``progress`` is
    called about once a second; an exception that it raises stops the conversion.

    ``part=(2, 4)`` writes only the files of the second of four parts, which may run at once and on several machines of one file system; ``finish``
    examines all parts and puts the folder in place.

    Raises ``Refused`` for what the target cannot express, and for what would be lost (rows of the vocabulary, values beyond the type) unless
    ``allow_lossy`` is set.
    """
    options = _options(to=to, from_=from_, container=container, dtype=dtype, cast_all=cast_all, allow_lossy=allow_lossy, vocab_size=vocab_size, max_shard_size=max_shard_size,
                       ranks=ranks, dcp_prefix=dcp_prefix, dry_run=dry_run, force=force, verify=verify, no_fsync=not fsync, sha256=sha256,
                       resume=resume, part=_pair(part, "/"), finish=finish, config=config, preset=preset, key=key, layout_file=list(layout_files), compat=compat, inert=list(inert))
    return build(Conversion, _run(["convert", _place(src), _place(dst), *options], progress=progress))


def parity(a: Path, b: Optional[Path] = None, *, trace: Optional[Path] = None, tokens: Optional[Tokens] = None,
           random: Optional[Tuple[int, int]] = None, seed: int = 0, precision: str = "float64", generate: int = 0, atol: Optional[float] = None,
           rtol: Optional[float] = None, self_extend: Optional[Tuple[int, int]] = None, config: Optional[Path] = None, config_b: Optional[Path] = None,
           preset: Optional[str] = None, key: Optional[str] = None, key_b: Optional[str] = None, layout_files: Sequence[Path] = (), compat: bool = False, inert: Sequence[str] = (),
           report: Optional[Path] = None) -> Parity:
    """Run the forward pass of two checkpoints, or of one beside a framework's own ``trace``, and find where they part.

    ``random=(2, 64)`` runs on two sequences of 64 random tokens; ``generate`` also compares a continuation of so many tokens. A failed parity is no
    exception: the result is false in a condition, and ``first_divergence`` says where and which tensors explain it.
    """
    with _token_file(tokens) as file:
        options = _options(trace=trace, tokens=file, random=_pair(random, "x"), seed=seed, precision=precision, generate=generate or None, atol=atol, rtol=rtol,
                           self_extend=_pair(self_extend, ","), config=config, config_b=config_b, preset=preset, key=key, key_b=key_b,
                           layout_file=list(layout_files), compat=compat, inert=list(inert), report=report)
        return build(Parity, _run(["parity", _place(a), *([] if b is None else [_place(b)]), *options], answers_no=True))


def diff(a: Path, b: Path, *, config: Optional[Path] = None, config_b: Optional[Path] = None, preset: Optional[str] = None, key: Optional[str] = None,
         key_b: Optional[str] = None, layout_files: Sequence[Path] = (), compat: bool = False, inert: Sequence[str] = (), report: Optional[Path] = None) -> Diff:
    """Compare two checkpoints tensor by tensor, whatever their layouts. The result is false in a condition if they differ."""
    options = _options(config=config, config_b=config_b, preset=preset, key=key, key_b=key_b, layout_file=list(layout_files), compat=compat, inert=list(inert),
                       report=report)
    return build(Diff, _run(["diff", _place(a), _place(b), *options], answers_no=True))


def check(path: Path) -> Check:
    """Read a converted checkpoint again and compare it with its ``weighbridge.json``, which ``convert(sha256=True)`` writes."""
    return build(Check, _run(["check", _place(path)], answers_no=True))


def layouts(name: Optional[str] = None, *, layout_files: Sequence[Path] = ()) -> Tuple[Layout, ...]:
    """The layouts that are known; with a name, those of a framework or the one of that name."""
    document = _run(["layouts", *([] if name is None else [name]), *_options(layout_file=list(layout_files))])
    return tuple(build(Layout, layout) for layout in document["layouts"])


def trace(path: Path, out: Path, *, tokens: Optional[Tokens] = None, random: Optional[Tuple[int, int]] = None, seed: int = 0,
          precision: str = "float64", config: Optional[Path] = None, preset: Optional[str] = None, key: Optional[str] = None,
          layout_files: Sequence[Path] = (), inert: Sequence[str] = ()) -> str:
    """Write the stages of weighbridge's own forward pass to a safetensors file, and return its path."""
    with _token_file(tokens) as file:
        _run(["trace", _place(path), _place(out), *_options(tokens=file, random=_pair(random, "x"), seed=seed, precision=precision, config=config, preset=preset,
                                                            key=key, layout_file=list(layout_files), inert=list(inert))])
    return os.fspath(out)


def generate(path: Path, tokens: Tokens, max_new_tokens: int, *, temperature: Optional[float] = None, top_p: Optional[float] = None, seed: int = 0,
             precision: str = "float32", config: Optional[Path] = None, preset: Optional[str] = None, key: Optional[str] = None,
             layout_files: Sequence[Path] = (), inert: Sequence[str] = ()) -> Continuations:
    """Continue prompts with a checkpoint of any layout; greedily unless a temperature is given."""
    with _token_file(tokens) as file:
        options = _options(tokens=file, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, precision=precision, config=config,
                           preset=preset, key=key, layout_file=list(layout_files), inert=list(inert))
        return build(Continuations, _run(["generate", _place(path), *options]))
