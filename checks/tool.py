"""What every check needs: the binary under test, and digests of what lies on the disk."""
import hashlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, ".."))
FIXTURES = os.path.join(ROOT, "Fixtures")


def find_tool():
    """The binary that WEIGHBRIDGE names, else this package's release or debug build."""
    named = os.environ.get("WEIGHBRIDGE")
    for path in [named] if named else [
            os.path.join(ROOT, ".build", kind, "weighbridge") for kind in ("release", "debug")]:
        if os.path.exists(path):
            return os.path.abspath(path)
    sys.exit("no weighbridge: swift build -c release --product weighbridge")


def digest(path):
    """SHA-256 of a file, or of a directory's files with their names; None if there is nothing."""
    if not os.path.lexists(path):
        return None
    total = hashlib.sha256()
    names = [""]
    if os.path.isdir(path):
        names = sorted(os.path.relpath(os.path.join(place, name), path)
                       for place, _, files in os.walk(path) for name in files)
    for name in names:
        total.update(name.encode() + b"\0")
        with open(os.path.join(path, name) if name else path, "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def bad_files(folder=os.path.join(FIXTURES, "bad")):
    """The malformed fixtures: files, and directories named like one."""
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and "__" not in name and not os.path.exists(
                os.path.join(path, "model.safetensors.index.json")):
            yield from bad_files(path)
        elif not name.endswith(".txt"):
            yield path
