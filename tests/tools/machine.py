"""Say on what a test run computes, so that a failure elsewhere can be read: `make test` begins so.

python -m tests.tools.machine       the processor, and the instructions that PyTorch uses on it
"""

import os
import platform
import subprocess
from pathlib import Path

import torch

# Each takes instructions away from one of the libraries that compute; `make portable` sets them.
STAND_INS = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "DNNL_MAX_CPU_ISA")


def processor() -> str:
    """The processor's name, as its maker writes it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        asked = ("sysctl", "-n", "machdep.cpu.brand_string")
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()


def machine() -> list[str]:
    """Lines that say what computes: the processor, the instructions in force, the libraries."""
    backends = torch.backends
    names = ("mkl", "mkldnn", "openmp")
    libraries = [name for name in names if getattr(backends, name).is_available()]
    lines = [
        f"{processor()}, {os.cpu_count()} processors, {torch.get_num_threads()} threads",
        f"PyTorch {torch.__version__}, instructions: {backends.cpu.get_cpu_capability()}, "
        f"libraries: {', '.join(libraries) or 'none of ' + ', '.join(names)}",
    ]
    if taken := [f"{name}={os.environ[name]}" for name in STAND_INS if name in os.environ]:
        lines.append(f"as another processor would: {' '.join(taken)}")
    return lines


if __name__ == "__main__":
    print("\n".join(f"   {line}" for line in machine()))
