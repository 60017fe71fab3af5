"""Names the kind of Python that a bundle is for. Copied into the scripts, so it stands on the standard library alone."""

import platform
import sys
import sysconfig

OTHER_NAMES = {"amd64": "x86_64", "x86-64": "x86_64"}


def own_tag() -> str:
    """Return the tag of this Python, such as cp311-linux-x86_64."""
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    if system == "linux" and "musl" in str(sysconfig.get_config_var("SOABI")):
        system = "musllinux"
    machine = platform.machine().lower()
    free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}{free_threaded}"
    return f"{version}-{system}-{OTHER_NAMES.get(machine, machine)}"


if __name__ == "__main__":
    sys.stdout.write(own_tag())
