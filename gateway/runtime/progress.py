"""The work that a process has done so far, by which a slow start differs from one that hangs."""

from __future__ import annotations

from pathlib import Path

_CPU_TICKS, _PAGES_READ = slice(11, 13), 9  # of /proc/PID/stat, after the name of the program (proc(5))


def work_done(pid: int) -> int | None:
    """CPU time and pages read from disk, in units that only grow; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[_CPU_TICKS])) + int(fields[_PAGES_READ])
    except (OSError, ValueError, IndexError):
        return None
