"""The weighbridge program: where it is, and how it is run."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ._errors import Failed, Refused, UsageError
from ._results import Problem, Progress, build

BUNDLED = Path(__file__).resolve().parent / "bin" / "weighbridge"


def path() -> str:
    """The program that is run: $WEIGHBRIDGE_BINARY, the one in this package, or the one on the PATH."""
    given = os.environ.get("WEIGHBRIDGE_BINARY")
    if given:
        return given
    if BUNDLED.exists():
        return str(BUNDLED)
    here = os.path.realpath(sys.argv[0]) if sys.argv and sys.argv[0] else ""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which("weighbridge", path=folder) if folder else None
        # This package's own console script would call itself for ever.
        if found and os.path.realpath(found) != here and not _is_script(found):
            return found
    raise Failed("there is no weighbridge program: install a wheel that carries it, or name it in WEIGHBRIDGE_BINARY", (), 127, (), "")


def _is_script(file: str) -> bool:
    with open(file, "rb") as f:
        return f.read(2) == b"#!"


def main() -> None:
    """The console script: this process becomes the program."""
    try:
        program = path()
        os.execv(program, ["weighbridge", *sys.argv[1:]])
    except (Failed, OSError) as error:
        print(f"weighbridge: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def run(arguments: Sequence[str], answers_no: bool = False, progress: Optional[Callable[[Progress], None]] = None) -> Dict[str, Any]:
    """Runs a command with --json and returns its document.

    ``answers_no`` says that exit status 1 is an answer (parity failed, files differ) and no refusal. ``progress`` is called in this thread; what it
    raises ends the program.
    """
    command = [path(), *arguments, "--json"]
    if progress is not None:
        command.append("--progress-json")
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}", (), 127, tuple(command), "") from None
    output: List[str] = []
    messages: List[str] = []
    assert process.stdout is not None and process.stderr is not None
    stdout = process.stdout
    # Read beside the progress, so that neither pipe fills up.
    reader = threading.Thread(target=lambda: output.append(stdout.read()), daemon=True)
    reader.start()
    try:
        for line in process.stderr:
            event = _event(line)
            if event is None:
                messages.append(line)
            elif progress is not None:
                progress(event)
        process.wait()
    except BaseException:
        _stop(process)
        raise
    finally:
        reader.join(5)
        stdout.close()
        process.stderr.close()
    return _document("".join(output), "".join(messages), process.returncode, tuple(command), answers_no)


def _event(line: str) -> Optional[Progress]:
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return build(Progress, event) if event.get("event") == "progress" else None


def _stop(process: "subprocess.Popen[str]") -> None:
    """Asks the program to end, which leaves nothing half written, and waits for it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _document(output: str, messages: str, code: int, command: Tuple[str, ...], answers_no: bool) -> Dict[str, Any]:
    try:
        document: Dict[str, Any] = json.loads(output)
    except ValueError:
        document = {}
    problems = tuple(build(Problem, p) for p in document.get("problems", []))
    # inspect tells what it can, and ends with 2 where that holds errors.
    if document and (code == 0 or (code == 1 and answers_no) or (code == 2 and "container" in document)):
        return document
    errors = [p for p in problems if p.severity == "error"]
    message = "\n".join(str(p) for p in errors) or messages.strip() or f"weighbridge ended with exit status {code}"
    kind = {1: Refused, 64: UsageError}.get(code, Failed)
    raise kind(message, problems, code, command, messages)
