"""On what and when the figures were taken."""
import datetime
import os
import platform
import shlex
import subprocess
import sys


def _cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit(folder):
    command = ["git", "-C", folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return out.stdout.strip() or None  # None: not a working copy


def facts(folder):
    with open("/proc/meminfo", encoding="ascii") as f:
        memory_kib = int(f.readline().split()[1])
    return {
        "machine": {"cpu": _cpu_model(), "cpus": os.cpu_count(), "cpus_allowed": len(os.sched_getaffinity(0)),
                    "kernel": platform.release(), "memory_mib": memory_kib // 1024,
                    "load_before": os.getloadavg()[0]},
        "commit": _commit(folder),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
    }


def line(known):
    machine = known["machine"]
    return (f"{machine['cpu']}, {machine['cpus_allowed']} CPUs, {machine['memory_mib'] / 1024:.1f} GiB, Linux "
            f"{machine['kernel']}, load {machine['load_before']:.1f}; commit {(known['commit'] or 'unknown')[:12]}, "
            f"{known['date']}")
