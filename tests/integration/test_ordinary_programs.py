"""What people run every day works in the sandbox: each program does something real, and all its output is looked at.

Every program runs at each level, as root and as an ordinary user. One that is not installed here is skipped by name.
What a level refuses by design stands in `EXCEPTIONS` with the reason, and is expected to fail: an exception that works
is none.

The table of programs makes this file long; it is to be read as a table.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from octaskly_wire.messages import OutcomeReport
from octaskly_wire.vocabulary import SandboxLevel
from tests.support.measured_once import measured_once
from tests.support.other_user import NoOtherUser, as_ordinary_user

if sys.platform == "linux":
    from tests.support.sandbox_bench import Bench
    from worker_node.sandbox.environment import DEFAULT_PATH
else:
    pytest.skip("the sandbox levels are those of Linux", allow_module_level=True)

AT_ONCE = 2
TIMEOUT_S = 40
ALL_TOGETHER_S = 150.0


@dataclass(frozen=True)
class Program:
    """One use of a program, and the output that says that it went well."""

    command: str
    expects: str
    """A pattern for all of standard output, blanks at its ends apart."""
    needs: tuple[str, ...] = ()
    """Programs beyond sh, the core utilities, grep, sed and awk."""
    errors: str = ""
    """The same pattern for standard error. A program that is at home has nothing to complain about."""


def sh(text: str, expects: str, *needs: str, errors: str = "") -> Program:
    """Return a program given as shell lines."""
    return Program(dedent(text).strip(), expects, needs, errors)


def python(text: str, expects: str) -> Program:
    """Return a Python script that runs from a file, as multiprocessing needs it."""
    return Program(f"cat >script.py <<'END'\n{dedent(text).strip()}\nEND\npython3 script.py", expects, ("python3",))


SHELL = {
    "sh_pipeline": sh(r"printf 'b\na\nc\n' | sort | head -n 2 | tr a-z A-Z", r"A\nB"),
    "sh_jobs_and_traps": sh(
        "trap 'echo caught' USR1; (kill -USR1 $$) & wait; wait; true & wait $!; echo $?", r"caught\n0"
    ),
    "sh_here_document": sh("cat <<END\nhome=$HOME\nEND", r"home=\S+"),
    "bash_process_substitution": sh(
        """
        bash -c 'diff <(seq 3) <(seq 3) && paste -s -d+ <(seq 3); seq 2 | tee >(tr 12 ab >out) >/dev/null
          until [ -s out ]; do sleep 0.02; done; cat out'
        """,
        r"1\+2\+3\na\nb",
        "bash",
        "diff",
    ),
    "bash_dev_fd": sh(
        "bash -c 'exec 3<<<here; cat /dev/fd/3; echo out >/dev/stdout; cat /dev/stdin <<<in'", r"here\nout\nin", "bash"
    ),
    "tee_dev_stderr": sh("echo both | tee /dev/stderr", "both", errors="both"),
    "dev_urandom_zero_null_full": sh(
        r"""
        head -c 1000 /dev/urandom | wc -c; head -c 10 /dev/zero | tr '\0' 0; echo; echo lost >/dev/null
        dd if=/dev/zero of=/dev/full count=1 2>&1 | grep -o 'No space left'
        """,
        r"1000\n0{10}\nNo space left",
    ),
    "sort_larger_than_its_buffer": sh(
        "seq 300000 | sort -rn -S 1M >sorted; sed -n '1p;$p' sorted; ls | wc -l", r"300000\n1\n1"
    ),
    "mktemp": sh(
        'f=$(mktemp) d=$(mktemp -d) && echo x >"$f" && touch "$d/y" && cat "$f" && ls "$d" && stat -c %a "$f" "$d"',
        r"x\ny\n600\n700",
    ),
    "mkfifo": sh("mkfifo pipe; seq 5 >pipe & paste -s -d, pipe; wait; stat -c %F pipe", r"1,2,3,4,5\nfifo"),
    "links_renames_and_modes": sh(
        """
        mkdir a b; echo x >a/f; mv a/f b/; ln b/f a/hard; ln -s ../b/f a/soft; cat a/hard a/soft; stat -c %h b/f
        cp -a b c; chmod 640 c/f; stat -c %a c/f; rm -r a b c; ls
        """,
        r"x\nx\n2\n640",
    ),
    "tail_follows_a_file": sh(
        """
        touch log; tail -n +1 -f log >seen & echo line >>log
        until [ -s seen ]; do sleep 0.02; done
        kill $!; cat seen
        """,
        "line",
    ),
    "timeout_nice_nohup_setsid": sh(
        "timeout 0.1 sleep 5; echo $?; nice -n 5 nice; nohup echo on 2>/dev/null; setsid -w echo own",
        r"124\n\d+\non\nown",
    ),
    "flock": sh(
        "exec 9>lock; flock 9; flock -n lock true || echo held; flock -u 9; flock lock echo free",
        r"held\nfree",
        "flock",
    ),
    "df_uname_loadavg": sh("df -P . | wc -l; uname -s; wc -w </proc/loadavg", r"2\nLinux\n5"),
    "date_in_other_zones": sh(
        "TZ=America/New_York date -d @0 +%H; TZ=Asia/Kolkata date -d @0 +%H:%M; date -u -d @0 +%Y", r"19\n05:30\n1970"
    ),
    "locale": sh("export LC_ALL=C.UTF-8; locale charmap; printf 'ä' | wc -m", r"UTF-8\n1", "locale"),
    "id": sh("id -u | grep -c '^[0-9]*$'; id -G | wc -w", r"1\n1"),
    "whoami": sh("whoami | grep -c .; id -un | grep -c .; id -gn | grep -c .", r"1\n1\n1", "whoami"),
    "hostname": sh('test "$(hostname)" = "$(uname -n)" && echo same', "same", "hostname"),
    "nproc": sh("test $(nproc) -ge 1 -a $(nproc) -le $(nproc --all) && echo some", "some"),
    "getent": sh(
        "getent hosts localhost | awk '{print $2}'; getent services http | awk '{print $2}'",
        r"localhost\n80/tcp",
        "getent",
    ),
    "awk": sh("seq 10 | awk '{s += $1} END {print s, length(ENVIRON[\"HOME\"])}' | sed 's/ .*/ &/'", r"55 +\d+"),
    "sed_in_place": sh("echo abc >f && sed -i.old s/b/X/ f && cat f f.old", r"aXc\nabc"),
    "grep": sh(
        r"printf 'Äpfel\nBirnen\n' >f; LC_ALL=C.UTF-8 grep -rin 'äpfel' .; grep -P '^B\w+n$' f",
        r"\./f:1:Äpfel\nBirnen",
    ),
    "find": sh(
        "mkdir -p a/b; touch a/1 a/b/2; find . -type f -newer a -o -name 1 | sort", r"\./a/(1|1\n\./a/b/2|b/2)", "find"
    ),
    "xargs_in_parallel": sh("seq 20 | xargs -P 4 -n 1 sh -c 'echo $(($0 * 2))' | sort -n | tail -n 1", "40", "xargs"),
    "ps": sh("ps -p $$ -o comm=; ps aux >f; ps -e -o comm= | grep -cx ps", r"sh\n[1-9]\d*", "ps"),
    "bc": sh("echo '2^64' | bc", "18446744073709551616", "bc"),
    "jq": sh("""echo '{"a": [1, 2]}' | jq -c '.a | add'""", "3", "jq"),
    "script": sh("script -qec 'test -t 1 && echo terminal' /dev/null", "terminal", "script"),
    "tmux": sh(
        """
        export SHELL=/bin/sh LC_ALL=C.UTF-8 TMUX_TMPDIR="$PWD"
        tmux -f /dev/null new-session -d 'test -t 0 && echo terminal >seen; exec sleep 60'
        until [ -s seen ]; do sleep 0.02; done
        tmux kill-server; cat seen
        """,
        "terminal",
        "tmux",
    ),
    "strace": sh("strace -f -e trace=execve -o log true && grep -c execve log", "1", "strace"),
}

ARCHIVES = {
    "tar_gzip": sh(
        "mkdir d; seq 1000 >d/f; tar czf d.tgz d && rm -r d && tar xzf d.tgz && wc -l <d/f", "1000", "tar", "gzip"
    ),
    "tar_xz": sh(
        "mkdir d; seq 1000 >d/f; tar cJf d.txz d && rm -r d && tar xJf d.txz && wc -l <d/f", "1000", "tar", "xz"
    ),
    "tar_bzip2": sh("seq 1000 >f; tar cjf f.tbz f && tar xjOf f.tbz | wc -l", "1000", "tar", "bzip2"),
    "zip": sh("seq 1000 >f; zip -q f.zip f && rm f && unzip -q f.zip && wc -l <f", "1000", "zip", "unzip"),
}

PYTHON = {
    "python_threads": python(
        """
        from concurrent.futures import ThreadPoolExecutor
        import hashlib
        with ThreadPoolExecutor(20) as pool:
            print(len(set(pool.map(lambda n: hashlib.sha256(bytes([n])).hexdigest(), range(100)))))
        """,
        "100",
    ),
    "python_asyncio_subprocess": python(
        """
        import asyncio
        async def main():
            cat = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            print((await cat.communicate(b"through"))[0].decode(), cat.returncode)
        asyncio.run(main())
        """,
        "through 0",
    ),
    "python_asyncio_loopback_server": python(
        """
        import asyncio
        async def echo(reader, writer):
            writer.write((await reader.readline()).upper())
            writer.close()
        async def main():
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1])
            writer.write(b"around\\n")
            print((await reader.read()).decode())
            writer.close()
        asyncio.run(main())
        """,
        "AROUND",
    ),
    "python_unix_sockets": python(
        """
        import socket, threading
        for address in "here.sock", "\\0octaskly-test-of-programs":
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind(address)
                server.listen()
                answer = threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"))
                answer.start()
                client.connect(address)
                print(client.recv(9).decode())
                answer.join()
        """,
        r"hello\nhello",
    ),
    "python_multiprocessing": python(
        """
        import multiprocessing
        def put(queue, lock, total, n):
            with lock:
                total.value += n
            queue.put(n)
        if __name__ == "__main__":
            with multiprocessing.Pool(3) as pool:
                print(sum(pool.map(abs, range(-50, 50))))
            queue, lock, total = multiprocessing.Queue(), multiprocessing.Lock(), multiprocessing.Value("i", 0)
            them = [multiprocessing.Process(target=put, args=(queue, lock, total, n)) for n in range(5)]
            for one in them:
                one.start()
            print(sorted(queue.get() for _ in them))
            for one in them:
                one.join()
            print(total.value)
            with multiprocessing.Manager() as manager:
                print(manager.list([1, 2])[1])
        """,
        r"2500\n\[0, 1, 2, 3, 4\]\n10\n2",
    ),
    "python_multiprocessing_spawn": python(
        """
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing
        if __name__ == "__main__":
            with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
                print(sum(pool.map(abs, [-1, -2])))
        """,
        "3",
    ),
    "python_shared_memory": python(
        """
        from multiprocessing.shared_memory import SharedMemory
        ours = SharedMemory(create=True, size=1 << 20)
        ours.buf[0] = 7
        theirs = SharedMemory(ours.name)
        print(theirs.buf[0])
        theirs.close()
        ours.close()
        ours.unlink()
        """,
        "7",
    ),
    "python_sqlite_wal": python(
        """
        import sqlite3
        one, two = sqlite3.connect("db"), sqlite3.connect("db")
        print(one.execute("pragma journal_mode = wal").fetchone()[0])
        with one:
            one.execute("create table t as select 1 as n")
        two.execute("begin")
        print(len(two.execute("select * from t").fetchall()))
        with one:
            one.execute("insert into t values (2)")
        print(len(two.execute("select * from t").fetchall()))
        two.rollback()
        print(len(two.execute("select * from t").fetchall()))
        """,
        r"wal\n1\n1\n2",
    ),
    "python_venv": sh(
        "python3 -m venv --without-pip env && env/bin/python -c 'import sys; print(sys.prefix != sys.base_prefix)'",
        "True",
        "python3",
    ),
    "python_pty": python(
        """
        import os, pty
        print(os.waitstatus_to_exitcode(pty.spawn(["sh", "-c", "tty; test -t 0 && echo terminal"])))
        """,
        r"/dev/pts/\d+\s+terminal\s+0",
    ),
    "python_home_and_tempfile": python(
        """
        import pathlib, tempfile
        print(pathlib.Path.home() == pathlib.Path(tempfile.gettempdir()) == pathlib.Path.cwd())
        """,
        "True",
    ),
    "python_http_server_and_curl": sh(
        r"""
        echo text >f; mkfifo log; python3 -u -m http.server --bind 127.0.0.1 0 >log 2>/dev/null &
        port=$(sed -n 's/.*port \([0-9]*\).*/\1/p;q' log)
        exec curl -sS --noproxy '*' "http://127.0.0.1:$port/f"
        """,
        "text",
        "python3",
        "curl",
    ),
}

LANGUAGES = {
    "node": sh(
        """
        cat >main.js <<'END'
        const { Worker, isMainThread, parentPort } = require('worker_threads');
        const fs = require('fs');
        if (!isMainThread) { parentPort.postMessage('thread'); return; }
        fs.writeFileSync('f', 'file');
        const child = require('child_process').execSync('echo child').toString().trim();
        const hash = require('crypto').createHash('sha1').update('').digest('hex').slice(0, 4);
        new Worker(__filename).on('message', word =>
          fs.promises.readFile('f', 'utf8').then(text => console.log(word, text, child, hash)));
        END
        node main.js
        """,
        "thread file child da39",
        "node",
    ),
    "gcc": sh(
        r"""
        printf '#include <stdio.h>\n#include <math.h>\nint main(int n) {printf("%%.3f", sqrt(n + 1)); return 0;}' >m.c
        gcc -O1 -o m m.c -lm && ./m
        """,
        r"1\.414",
        "gcc",
    ),
    "g++_with_threads": sh(
        r"""
        printf '#include <cstdio>\n#include <thread>\nint main() {std::thread t([] {puts("42");}); t.join();}' >m.cc
        g++ -pipe -o m m.cc -pthread && ./m
        """,
        "42",
        "g++",
    ),
    "make": sh(r"printf 'all: a b\n\tcat a b\na b:\n\techo $@ >$@\n' >Makefile && make -s -j 2", r"a\nb", "make"),
    "cmake": sh(
        r"""
        printf 'cmake_minimum_required(VERSION 3.10)\nproject(p C)\nadd_executable(m m.c)\n' >CMakeLists.txt
        printf '#include <stdio.h>\nint main(void) {puts("built"); return 0;}\n' >m.c
        cmake -S . -B out >log && cmake --build out >>log && out/m
        """,
        "built",
        "cmake",
        "make",
        "gcc",
    ),
    "perl": sh(
        """
        perl -MFile::Temp=tempfile -e '($h, $n) = tempfile(); print $h "text"; close $h;
          if (!fork) {exit 3} wait; print -s $n, " ", $? >> 8, "\\n"'
        """,
        "4 3",
        "perl",
    ),
    "tcl": sh("echo 'puts [exec echo [expr 6*7]]' | tclsh", "42", "tclsh"),
    "ruby": sh("ruby -rtempfile -e 'Tempfile.create {|f| f.write 42; f.flush; puts File.read(f.path)}'", "42", "ruby"),
    "go": sh(
        """
        cat >m.go <<'END'
        package main
        func main() { c := make(chan string); go func() { c <- "routine" }(); println(<-c) }
        END
        GOFLAGS=-mod=mod go run m.go 2>&1
        """,
        "routine",
        "go",
    ),
    "rustc": sh("""echo 'fn main() { println!("{}", 6 * 7); }' >m.rs && rustc m.rs && ./m""", "42", "rustc"),
    "java_version": sh("java -version 2>&1 | head -n 1", r'\w+ version ".*', "java"),
    "java": sh(
        """
        cat >M.java <<'END'
        import java.nio.file.*;
        public class M {
          public static void main(String[] a) throws Exception {
            Thread t = new Thread(() -> System.out.println("thread")); t.start(); t.join();
            Path p = Files.createTempFile("a", "b"); Files.writeString(p, "file");
            System.out.println(Files.readString(p));
          }
        }
        END
        javac M.java && java M
        """,
        r"thread\nfile",
        "java",
        "javac",
    ),
}

TOOLS = {
    "git": sh(
        """
        git init -q -b main a && cd a && git config user.name n && git config user.email e@x && echo x >f
        git add f && git commit -q -m first && cd .. && git clone -q a b && cd b && git log --format=%s
        git checkout -q -b other && git status --porcelain -b && git gc -q && git fsck --no-progress && cat f
        """,
        r"first\n## other\nx",
        "git",
    ),
    "sqlite3": sh(
        "sqlite3 db 'pragma journal_mode = wal; create table t (n); insert into t values (1), (2); select sum(n) from t'",
        r"wal\n3",
        "sqlite3",
    ),
    "openssl": sh(
        """
        openssl rand -hex 8 | wc -c; printf x | openssl dgst -sha256 -r | cut -c 1-8
        openssl req -x509 -newkey ed25519 -nodes -keyout k -out c -subj /CN=x 2>/dev/null && openssl verify -CAfile c c
        """,
        r"17\n2d711642\nc: OK",
        "openssl",
    ),
    "ssh_keygen": sh(
        "ssh-keygen -q -t ed25519 -N '' -C me -f key && ssh-keygen -l -f key.pub | awk '{print $1, $3}'",
        "256 me",
        "ssh-keygen",
    ),
    "gpg": sh(
        """
        mkdir -m 700 k; export GNUPGHOME="$PWD/k"
        with() { gpg -q --batch --no-tty --pinentry-mode loopback --passphrase p "$@" 2>>errors; }
        echo text | with -c >f && with -d f || cat errors
        """,
        "text",
        "gpg",
        "gpg-agent",
    ),
    "curl_file": sh('echo text >f && curl -sS "file://$PWD/f"', "text", "curl"),
    "ffmpeg": sh(
        """
        ffmpeg -v error -f lavfi -i testsrc=d=1:s=64x64:r=5 a.mkv </dev/null
        ffprobe -v error -show_entries stream=width -of csv=p=0 a.mkv
        """,
        "64",
        "ffmpeg",
        "ffprobe",
    ),
}

PROGRAMS = SHELL | ARCHIVES | PYTHON | LANGUAGES | TOOLS

NO_TCP = "no TCP, not even to itself"
EXCEPTIONS = {
    SandboxLevel.VERY_STRICT: {"python_asyncio_loopback_server": NO_TCP, "python_http_server_and_curl": NO_TCP},
}
"""What a level refuses by design."""

COLUMNS = [
    f"{level}/{user}"
    for level in (SandboxLevel.BASIC, SandboxLevel.STRICT, SandboxLevel.VERY_STRICT)
    for user in ("root", "user")
]


def run_all(level: str) -> dict[str, dict[str, str]] | str:
    """Run all programs that are here at one level; return output, errors and failure of each, or why none ran."""
    return asyncio.run(_run_all(SandboxLevel(level)))


async def _run_all(level: SandboxLevel) -> dict[str, dict[str, str]] | str:
    found: dict[str, dict[str, str]] = {}
    room = asyncio.Semaphore(AT_ONCE)
    # A short name: the paths of sockets in there are bounded.
    with tempfile.TemporaryDirectory(prefix="o") as folder:
        bench = Bench(Path(folder))

        async def run(name: str, command: str) -> None:
            async with room:
                # The path of these tests may lead to programs that the sandbox does not show.
                ending = await bench.run(command, level, env={"PATH": DEFAULT_PATH}, timeout_s=TIMEOUT_S)
            if ending.outcome is None:
                found[name] = {"failure": ending.refusal}
                return
            found[name] = {
                "failure": _failure(ending.report),
                "stdout": ending.stdout.decode(errors="replace").strip(),
                "stderr": ending.outcome.stderr.data.decode(errors="replace").strip(),
            }

        try:
            async with asyncio.timeout(ALL_TOGETHER_S):
                if refusal := (await bench.run("true", level)).refusal:
                    return refusal
                await asyncio.gather(*[run(name, it.command) for name, it in PROGRAMS.items() if not missing(it)])
        finally:
            await bench.runner.close()
    return found


def _failure(report: OutcomeReport) -> str:
    if report.failure_reason is None:
        return "" if report.exit_code == 0 else "success without exit code 0"
    return f"{report.failure_reason}, exit code {report.exit_code}, signal {report.signal}, {report.detail}"


def missing(program: Program) -> list[str]:
    """Return what is not installed of what a program needs, where a command of any level looks for it."""
    return [name for name in program.needs if shutil.which(name, path=DEFAULT_PATH) is None]


@functools.cache
def _measure(column: str) -> dict[str, dict[str, str]] | str:
    level, _, user = column.partition("/")
    if user == "root":
        return run_all(level) if os.geteuid() == 0 else "needs root"
    try:
        return as_ordinary_user("tests.integration.test_ordinary_programs:run_all", level, timeout_s=2 * ALL_TOGETHER_S)
    except NoOtherUser as reason:
        return str(reason)


def complaint(program: Program, seen: dict[str, str]) -> str:
    """Return how what came of a program differs from what it is to be, empty when it does not."""
    if seen["failure"]:
        return f"{seen['failure']}: {seen}"
    for stream, pattern in (("stdout", program.expects), ("stderr", program.errors)):
        if not re.fullmatch(pattern, seen[stream]):
            return f"{stream} {seen[stream]!r} is not {pattern!r}"
    return ""


@pytest.mark.parametrize("name", list(PROGRAMS))
@pytest.mark.parametrize("column", [measured_once(column, f"programs at {column}", column) for column in COLUMNS])
def test_ordinary_programs_work(column, name):
    """A program gives the output that it gives anywhere, or is a known exception and does not."""
    if absent := missing(PROGRAMS[name]):
        pytest.skip(f"not installed: {', '.join(absent)}")
    found = _measure(column)
    if isinstance(found, str):
        pytest.skip(found)
    why_not = complaint(PROGRAMS[name], found[name])
    if reason := EXCEPTIONS.get(SandboxLevel(column.partition("/")[0]), {}).get(name):
        assert why_not, f"works, although {reason}"
    else:
        assert not why_not, why_not


def test_only_very_strict_has_exceptions():
    """At basic and strict every one of these programs works, whoever the worker is."""
    assert set(EXCEPTIONS) == {SandboxLevel.VERY_STRICT}
