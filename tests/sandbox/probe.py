"""What a worker's process can do: each step is named by an argument and prints `done`, or the name of the error."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile

libc = ctypes.CDLL(None, use_errno=True)


def called(name, *arguments):
    """A function of the C library, which fails as those of Python do."""
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def connect(poolctl, path):
    """What a client prints that connects."""
    environment = {**os.environ, "POOLD_SOCKET": path}
    client = subprocess.run([poolctl, "status"], env=environment, capture_output=True)
    return client.stdout + client.stderr


def pidfd_kill(pid):
    directory = os.open(f"/proc/{pid}", os.O_DIRECTORY)
    signal.pidfd_send_signal(directory, signal.SIGKILL)


def kill_every_thread(pid):
    """A signal to the number of a thread reaches the process."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            os.kill(int(thread), signal.SIGKILL)
        except PermissionError as error:
            refused = error
        else:
            return
    raise refused


def kill_as_a_member(pid):
    os.setpgid(0, os.getpgid(pid))
    os.killpg(0, signal.SIGKILL)


def kill_by_descriptor(pid):
    """Has the kernel send the signal, when something is to be read."""
    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, pid)
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC)
    theirs.send(b"x")


def read_memory(pid):
    room = ctypes.create_string_buffer(8)

    class Part(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]

    ours = Part(ctypes.addressof(room), 8)
    with open(f"/proc/{pid}/stat") as stat:
        stack = int(stat.read().rsplit(")", 1)[1].split()[25])
    theirs = Part(stack or 4096, 8)
    called("process_vm_readv", pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)


def set_limits(pid):
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def link_across_directories(_):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        open(one + "/file", "w").close()
        os.rename(one + "/file", other + "/renamed")
        os.link(other + "/renamed", one + "/linked")
        nameless = os.open(one, os.O_TMPFILE | os.O_RDWR)
        here, follow = -100, 0x400
        called("linkat", here, f"/proc/self/fd/{nameless}".encode(), here, f"{other}/named".encode(), follow)


def kill_child(_):
    child = subprocess.Popen(["sleep", "1000"])
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def clone_into_user_namespace(_):
    clone = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    called("syscall", clone, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)


STEPS = {
    "kill": lambda pid: os.kill(pid, signal.SIGKILL),
    "kill_group": lambda pid: os.killpg(os.getpgid(pid), signal.SIGKILL),
    "kill_everyone": lambda pid: os.kill(-1, signal.SIGKILL),
    "kill_every_thread": kill_every_thread,
    "kill_as_a_member": kill_as_a_member,
    "kill_by_descriptor": kill_by_descriptor,
    "pidfd_kill": pidfd_kill,
    "pidfd_open": os.pidfd_open,
    "trace": lambda pid: called("ptrace", 16, pid, 0, 0),
    "read_memory": read_memory,
    "open_memory": lambda pid: os.open(f"/proc/{pid}/mem", os.O_RDWR),
    "set_limits": set_limits,
    "lower_priority": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "mount": lambda _: called("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "unshare": lambda _: called("unshare", 0x10000000),
    "clone": clone_into_user_namespace,
    "chroot": lambda _: os.chroot("/"),
    "link_across_directories": link_across_directories,
    "kill_child": kill_child,
}


def in_a_grandchild(step):
    """What `step` gives in a process that has left its session and whose parent has ended."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, step())
        os._exit(0)
    os.wait()
    os.close(writing)
    return os.read(reading, 4096)


def main(word, *arguments):
    if word == "connect":
        sys.stdout.buffer.write(connect(*arguments))
    elif word == "connect_far_away":
        sys.stdout.buffer.write(in_a_grandchild(lambda: connect(*arguments)))
    elif word == "sibling":
        steps, workers = arguments[0], [int(pid) for pid in arguments[1:]]
        others = [pid for pid in workers if pid != os.getppid()]
        attempt(steps.split(","), others[0])
    else:
        attempt(word.split(","), int(arguments[0]))


def attempt(steps, pid):
    for step in steps:
        try:
            STEPS[step](pid)
            print(step, "done")
        except OSError as error:
            print(step, errno.errorcode[error.errno])


main(*sys.argv[1:])
