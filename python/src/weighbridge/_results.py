"""The documents of weighbridge as values. Keys that a newer program adds are in ``raw``."""
from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple, Type, TypeVar

T = TypeVar("T")


def build(cls: Type[T], document: Any) -> T:
    """``document`` as a ``cls``: nested dataclasses and tuples of them by their annotations, other values as they are."""
    hints = _hints(cls)
    values: Dict[str, Any] = {}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if f.name == "raw":
            values["raw"] = document
            continue
        key = f.metadata.get("key", f.name)
        if key in document:
            values[f.name] = _value(hints[f.name], document[key])
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            values[f.name] = None
    return cls(**values)


_known: Dict[type, Dict[str, Any]] = {}


def _hints(cls: type) -> Dict[str, Any]:
    if cls not in _known:
        _known[cls] = typing.get_type_hints(cls)
    return _known[cls]


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        return _value(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple:
        return tuple(_value(arguments[0], v) for v in value)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(Type[Any], hint), value)
    if hint is float and isinstance(value, (int, str)):
        return float(value)
    return value


def _raw() -> Any:
    return field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Problem:
    """One thing worth telling."""

    #: A stable code such as ``convert.inexpressible``.
    code: str
    #: ``error``, ``warning`` or ``note``.
    severity: str
    #: The file, tensor or config key that it is about.
    subject: str
    #: What was found, and what was expected.
    message: str
    #: What to do.
    help: Optional[str] = None

    def __str__(self) -> str:
        return f"{self.severity}[{self.code}]: {self.subject}: {self.message}" + (f"\n  help: {self.help}" if self.help else "")


@dataclass(frozen=True)
class Progress:
    """How far a conversion is."""

    #: Bytes written.
    done: int
    #: Bytes to be written.
    total: int
    #: The mean rate.
    bytes_per_second: float
    #: An estimate.
    seconds_left: float
    #: The tensor in work.
    tensor: str


@dataclass(frozen=True)
class Tensor:
    """A tensor of a checkpoint. The statistics are there with ``stats=True``."""

    name: str
    #: safetensors' name of the type: ``F32``, ``BF16``.
    dtype: str
    shape: Tuple[int, ...]
    bytes: int
    file: Optional[str] = None
    #: What it is made of, in the hub's names.
    piece: Optional[str] = None
    min: Optional[float] = None
    max: Optional[float] = None
    mean: Optional[float] = None
    std: Optional[float] = None
    nan: Optional[int] = None
    inf: Optional[int] = None
    zeros: Optional[int] = None
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint is."""

    path: str
    container: str
    #: The framework; ``None`` for tensors that no layout knows.
    layout: Optional[str]
    family: Optional[str]
    parameters: int
    bytes: int
    #: The config in canonical names.
    config: Dict[str, Any]
    #: The stack: a dictionary for each sub-layer, with ``index``, ``kind``, ``layer`` and its attributes.
    sublayers: Tuple[Dict[str, Any], ...]
    #: Names that stand for one tensor.
    tied: Tuple[Tuple[str, ...], ...]
    tensors: Tuple[Tensor, ...]
    problems: Tuple[Problem, ...] = ()
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class Conversion:
    """What a conversion did, or with ``dry_run=True`` would do."""

    #: ``bitwise``, ``exact``, ``rounding`` or, with ``allow_lossy``, ``lossy``.
    exactness: str
    #: Why it is no better than that.
    reasons: Tuple[str, ...]
    to: str
    family: str
    #: How many tensors were written.
    tensors: int
    bytes: int
    #: The files.
    outputs: Tuple[str, ...]
    from_: str = field(default="", metadata={"key": "from"})
    problems: Tuple[Problem, ...] = ()
    raw: Dict[str, Any] = _raw()

    @property
    def warnings(self) -> Tuple[Problem, ...]:
        """The problems that did not keep it from being done."""
        return tuple(p for p in self.problems if p.severity == "warning")


@dataclass(frozen=True)
class Stage:
    """A place in the forward pass."""

    #: As a trace names it: ``hidden_states.3``, ``final_norm``, ``logits``.
    name: str
    #: The largest absolute difference.
    max_abs: float
    #: The same, relative to the stage's largest value.
    relative: float
    #: What is allowed.
    bound: float
    #: Whether it is within the bound.
    ok: bool
    #: Float32's noise on the reference.
    noise: Optional[float] = None
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class Divergence:
    """Where two models part."""

    #: The first stage out of bounds.
    stage: str
    #: The sub-layer in the flat list; ``None`` for embedding, final norm and head.
    sublayer: Optional[int]
    kind: str
    #: The tensors that explain it.
    suspects: Tuple[str, ...]
    #: Attributes of the configs that explain it.
    attributes: Tuple[str, ...] = ()
    #: Whether the reference's tensors in their place were seen to cure it.
    proven: bool = False
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class Logits:
    """How the predictions agree."""

    max_abs: float
    #: Kullback-Leibler divergence from A to B, in nats.
    kl_max: float
    kl_mean: float
    #: The share of positions whose likeliest token is the same.
    top1_agreement: float
    #: The share of positions whose five likeliest tokens are the same.
    top5_agreement: float
    #: A's mean negative log-likelihood of the next token.
    nll_a: Optional[float] = None
    #: B's.
    nll_b: Optional[float] = None
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class PieceDifference:
    """A piece of weight and how it compares."""

    #: The hub's name: sub-layer and role.
    piece: str
    #: In words: ``equal``, ``differs by up to …``.
    status: str
    #: A's tensors that hold it.
    a: Tuple[str, ...] = ()
    #: B's.
    b: Tuple[str, ...] = ()
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class Weights:
    """The weights of two checkpoints compared."""

    #: How many pieces are equal.
    equal: int
    differ: Tuple[PieceDifference, ...]
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class Generation:
    """Two continuations compared."""

    tokens: Any
    equal: bool
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class Parity:
    """Whether two checkpoints, or a checkpoint and a trace, compute the same. True in a condition if they do."""

    #: ``pass`` or ``fail``.
    verdict: str
    precision: str
    #: Sequences and their length.
    tokens: Tuple[int, ...]
    weights: Weights
    stages: Tuple[Stage, ...]
    first_divergence: Optional[Divergence]
    logits: Logits
    generation: Optional[Generation] = None
    problems: Tuple[Problem, ...] = ()
    raw: Dict[str, Any] = _raw()

    @property
    def passed(self) -> bool:
        """Whether the verdict is ``pass``."""
        return self.verdict == "pass"

    def __bool__(self) -> bool:
        return self.passed


@dataclass(frozen=True)
class Diff:
    """Two checkpoints compared tensor by tensor, whatever their layouts. True in a condition if they are equal."""

    equal: bool
    pieces: Tuple[PieceDifference, ...]
    #: The attributes of the configs that differ.
    attributes: Tuple[Dict[str, Any], ...] = ()
    problems: Tuple[Problem, ...] = ()
    raw: Dict[str, Any] = _raw()

    @property
    def differing(self) -> Tuple[PieceDifference, ...]:
        """The pieces that are not equal."""
        return tuple(p for p in self.pieces if p.status != "equal")

    def __bool__(self) -> bool:
        return self.equal


@dataclass(frozen=True)
class Check:
    """A converted checkpoint compared with the digests of its ``weighbridge.json``. True in a condition if all is as it was."""

    verdict: Optional[str]
    path: str
    bad_files: Tuple[Any, ...] = ()
    bad_tensors: Tuple[Any, ...] = ()
    problems: Tuple[Problem, ...] = ()
    raw: Dict[str, Any] = _raw()

    def __bool__(self) -> bool:
        return not self.bad_files and not self.bad_tensors and not any(p.severity == "error" for p in self.problems)


@dataclass(frozen=True)
class ConfigKey:
    """A config key that a layout knows."""

    name: str
    default: Any = None
    required: bool = False
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class Layout:
    """A layout. ``raw`` has all that the program tells of it."""

    name: str
    #: What ``to`` takes.
    framework: str
    #: The framework and its class.
    title: str
    container: str
    config_file: str
    config_keys: Tuple[ConfigKey, ...] = ()
    raw: Dict[str, Any] = _raw()


@dataclass(frozen=True)
class Continuations:
    """Prompts with their continuations."""

    tokens: Tuple[Tuple[int, ...], ...]
    problems: Tuple[Problem, ...] = ()
    raw: Dict[str, Any] = _raw()
