"""How much memory a second server may take: the machine's, or that of the tightest cgroup of this process."""

from pathlib import Path

import pytest

from operations.server.memory import Memory, available_memory

MIB = 2**20


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine with 1,000 MiB available."""
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text("MemTotal: 4096000 kB\nMemFree: 1 kB\nMemAvailable:    1024000 kB\n")
    return folder


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_DOT_", ".")).write_text(f"{content}\n")
    return folder


def version_2(folder: Path, limit: object, used: int, files: int = 0) -> None:
    stat = f"anon 5\nactive_file {files}\ninactive_file {files}"
    write(folder, memory_DOT_max=limit, memory_DOT_current=used, memory_DOT_stat=stat)


def test_without_a_limit_the_machine_decides(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("0::/shop\n")
    version_2(tmp_path / "cgroup" / "shop", "max", 900 * MIB)
    assert available_memory(proc, tmp_path / "cgroup") == Memory(1000 * MIB, "the machine")


def test_the_tightest_group_above_this_process_decides(proc: Path, tmp_path: Path) -> None:
    """Pages of files count as free: 500 of 800 MiB are used, 2 × 50 of them by files."""
    (proc / "self" / "cgroup").write_text("0::/shop/triton\n")
    version_2(tmp_path / "cgroup" / "shop" / "triton", 2000 * MIB, 100 * MIB)
    version_2(tmp_path / "cgroup" / "shop", 800 * MIB, 500 * MIB, 50 * MIB)
    limit = tmp_path / "cgroup" / "shop" / "memory.max"
    assert available_memory(proc, tmp_path / "cgroup") == Memory(400 * MIB, f"the limit in {limit}")


def test_a_container_sees_its_own_group_as_the_root(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("0::/\n")
    version_2(tmp_path / "cgroup", 700 * MIB, 500 * MIB)
    memory = available_memory(proc, tmp_path / "cgroup")
    assert memory is not None
    assert memory.free == 200 * MIB


def test_groups_of_version_1(proc: Path, tmp_path: Path) -> None:
    """A container's path may not exist below its own root; then the root decides."""
    (proc / "self" / "cgroup").write_text("5:devices:/\n4:memory:/docker/abc\n0::/\n")
    write(
        tmp_path / "cgroup" / "memory",
        memory_DOT_limit_in_bytes=600 * MIB,
        memory_DOT_usage_in_bytes=500 * MIB,
        memory_DOT_stat=f"total_inactive_file {10 * MIB}\ntotal_active_file {20 * MIB}",
    )
    memory = available_memory(proc, tmp_path / "cgroup")
    assert memory is not None
    assert memory.free == 130 * MIB


def test_a_kernel_that_says_nothing(tmp_path: Path) -> None:
    assert available_memory(tmp_path, tmp_path) is None
