"""Puts the weighbridge binary into the wheel, which is of this platform and of any Python 3.

The binary is, in this order: WEIGHBRIDGE_BINARY; what scripts/install makes; what `swift build` makes; each in the checkout that holds this folder.
"""
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


def binary(folder):
    """A path of the binary."""
    given = os.environ.get("WEIGHBRIDGE_BINARY")
    if given:
        return Path(given)
    checkout = HERE.parent
    if not (checkout / "Package.swift").exists():
        raise SystemExit("no Package.swift beside this folder: give the binary as WEIGHBRIDGE_BINARY=PATH")
    if shutil.which("swift") is None:
        raise SystemExit("swift is not on the PATH: install Swift 6.3, or give the binary as WEIGHBRIDGE_BINARY=PATH")
    install = checkout / "scripts" / "install"
    if install.exists():
        subprocess.run([install, "--prefix", folder], cwd=checkout, check=True)
        return Path(folder) / "bin" / "weighbridge"
    command = ["swift", "build", "-c", "release", "--product", "weighbridge", "-Xswiftc", "-static-stdlib"]
    subprocess.run(command, cwd=checkout, check=True)
    found = subprocess.run([*command, "--show-bin-path"], cwd=checkout, check=True, stdout=subprocess.PIPE, text=True)
    return Path(found.stdout.strip()) / "weighbridge"


class BuildWithBinary(build_py):
    def run(self):
        super().run()
        target = Path(self.build_lib) / "weighbridge" / "bin" / "weighbridge"
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(binary(folder), target)
        if shutil.which("strip"):
            subprocess.run(["strip", str(target)], check=True)
        target.chmod(0o755)


class PlatformWheel(bdist_wheel):
    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        # The binary does not know Python: one wheel for all of them.
        return "py3", "none", super().get_tag()[2]


class Binary(Distribution):
    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": BuildWithBinary, "bdist_wheel": PlatformWheel}, distclass=Binary)
