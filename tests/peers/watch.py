"""CPU time, memory and disk space of processes and all their descendants, from /proc."""

import os
import threading

TICKS = os.sysconf("SC_CLK_TCK")
EVERY_S = 0.1


def tree(pid):
    """The process and its descendants."""
    found = [pid]
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as children:
                for child in children.read().split():
                    found += tree(int(child))
    except OSError:
        pass  # It has ended.
    return found


def cpu_s(pid):
    """CPU time of the process and of the children that it has waited for."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def pss_bytes(pid):
    """Memory, with the process's share of what it shares with others."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            line = next(line for line in rollup if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) * 1024


def disk_bytes(folder):
    """Disk space of all files in a folder."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(path, name)).st_blocks * 512
            except OSError:
                pass  # The file is gone.
    return total


class Watch:
    """Watches processes from now on. `stop` gives their CPU seconds and the peak of their memory."""

    def __init__(self, pids):
        self.pids = pids
        self.peak = 0
        self.begun_s = self._cpu_s()
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _cpu_s(self):
        return sum(cpu_s(pid) for root in self.pids for pid in tree(root))

    def _sample(self):
        memory = sum(pss_bytes(pid) for root in self.pids for pid in tree(root))
        self.peak = max(self.peak, memory)

    def _watch(self):
        while not self.end.wait(EVERY_S):
            self._sample()

    def stop(self):
        cpu = self._cpu_s() - self.begun_s
        self.end.set()
        self.thread.join()
        self._sample()
        return cpu, self.peak
