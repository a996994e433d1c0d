#!/usr/bin/env python3
"""Runs the Autobahn test suite against a server or a client of this library, and checks every result.

    run.py NAME [--cases PATTERN[,...]] [--without PATTERN[,...]] [--expect N] [--tls DIRECTORY] server COMMAND...
    run.py NAME ...                                                                              client COMMAND...

`server`: COMMAND is started and must print `listening on ws://IP:PORT`; Autobahn's client talks to it.
`client`: Autobahn's server is started, and COMMAND is run with its URL and an agent's name as first arguments.

`--tls`: over TLS, with what .ci/certificates made in DIRECTORY. The server's COMMAND gets `--cert` and `--key`, the client's
`--ca`. The suite does its own TLS, by OpenSSL 1.1.1.

Every case must be OK, except 7.1.6, 7.13.1 and 7.13.2, which are always INFORMATIONAL. The same applies to how the
connection was closed. A case that does not connect is missing from the report, so the number of cases is a check of its
own. Prints `ok NAME/...` and `FAIL NAME/... why`, and a summary; exits 1 if a check fails.

The suite needs CPython 2.7: the one in PYTHON2, `python2.7`, or one of pyenv. If there is none, nothing is checked, and
the script fails.
"""
import argparse
import collections
import glob
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "autobahn"
VERSION = "25.10.1"
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
ALL_CASES = 517


def find_python2():
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    candidates = [os.environ.get("PYTHON2"), shutil.which("python2.7")]
    candidates += sorted(glob.glob(pyenv + "/versions/2.7.*/bin/python2.7"))
    probe = "import sys, ssl; sys.exit(sys.version_info[:2] != (2, 7))"
    for python in filter(None, candidates):
        if subprocess.run([python, "-c", probe], stderr=subprocess.DEVNULL).returncode == 0:
            return python
    sys.exit("no CPython 2.7 with ssl, which the suite needs; set PYTHON2 to one. NOTHING WAS CHECKED.")


def wstest():
    """Returns the path of the suite's program, and installs it on first use."""
    program = CACHE / "env" / "bin" / "wstest"

    def works():
        if not program.exists():
            return False
        answer = subprocess.run([program, "-a"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return "AutobahnTestSuite " + VERSION in answer.stdout

    if not works():
        python2 = find_python2()
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        pip = [python2, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        log = open(CACHE / "install.log", "w")
        subprocess.run(pip + ["--target", CACHE / "tool", "virtualenv==20.15.1"], check=True, stderr=log)
        environment = dict(os.environ, PYTHONPATH=str(CACHE / "tool"))
        subprocess.run([python2, "-m", "virtualenv", "-q", CACHE / "env"], check=True, env=environment, stderr=log)
        packages = ["autobahntestsuite==" + VERSION, "wsaccel==0.6.6", "ujson==2.0.3"]
        install = [CACHE / "env" / "bin" / "pip", "install", "-q", "-c", HERE / "constraints.txt"]
        subprocess.run(install + packages, check=True, stderr=log)
        if not works():
            sys.exit("wstest %s is not usable; see %s. NOTHING WAS CHECKED." % (VERSION, CACHE / "install.log"))
    return program


def free_port():
    # Below the system's ephemeral ports, of which a connection could take one before the suite listens on it.
    for port in random.sample(range(10_000, 32_000), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    sys.exit("no free port. NOTHING WAS CHECKED.")


def wait_for_port(port, suite, log):
    for _ in range(1200):
        if suite.poll() is not None:
            sys.exit("the suite ended with status %d before it listened, see %s. NOTHING WAS CHECKED." % (
                suite.returncode, log))
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("nothing listens on port %d. NOTHING WAS CHECKED." % port)


def run_server(program, command, specification, out, limit, tls):
    scheme = "wss" if tls else "ws"
    if tls:
        command = command + ["--cert", tls / "cert.pem", "--key", tls / "key.pem"]
    with open(out / "ours.log", "w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = server.stdout.readline()
        if not line.startswith("listening on %s://" % scheme):
            sys.exit("%s did not listen: %r" % (command[0], line))
        specification["servers"] = [{"agent": "ours", "url": line.split()[-1]}]
        (out / "spec.json").write_text(json.dumps(specification))
        with open(out / "wstest.log", "w") as log:
            subprocess.run([program, "-m", "fuzzingclient", "-s", out / "spec.json"], stdout=log, stderr=log,
                           timeout=limit, check=True)
        if server.poll() is not None:
            sys.exit("the server died during the run")
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


def run_client(program, command, specification, out, limit, tls):
    port = free_port()
    specification["url"] = "%s:%d" % ("wss://localhost" if tls else "ws://127.0.0.1", port)
    trust = []
    if tls:
        specification.update(cert=str(tls / "cert.pem"), key=str(tls / "key.pem"))
        trust = ["--ca", tls / "ca.pem"]
    (out / "spec.json").write_text(json.dumps(specification))
    with open(out / "wstest.log", "w") as log:
        suite = subprocess.Popen([program, "-m", "fuzzingserver", "-u", "0", "-s", out / "spec.json"],
                                 stdout=log, stderr=log)
    try:
        wait_for_port(port, suite, out / "wstest.log")
        with open(out / "ours.log", "w") as log:
            subprocess.run(command[:1] + [specification["url"], "ours"] + command[1:] + trust, stdout=log, stderr=log, timeout=limit, check=True)
    finally:
        suite.kill()
        suite.wait()


def check_report(name, report, expected):
    failed = 0

    def check(what, problem):
        nonlocal failed
        failed += bool(problem)
        print("FAIL %s/%s %s" % (name, what, problem) if problem else "ok %s/%s" % (name, what))

    problem = "" if len(report) == expected else "%d, expected %d: a case that does not connect is missing" % (
        len(report), expected)
    check("number-of-cases", problem)
    sections = collections.defaultdict(list)
    for case, result in report.items():
        sections[int(case.split(".")[0])].append((case, result))
    for section, cases in sorted(sections.items()):
        wrong = []
        for case, result in cases:
            wanted = "INFORMATIONAL" if case in INFORMATIONAL else "OK"
            if result["behavior"] != wanted or result["behaviorClose"] != wanted:
                wrong.append("%s: %s, close %s" % (case, result["behavior"], result["behaviorClose"]))
        check("section-%d" % section, "; ".join(wrong))
    kinds = collections.Counter(result["behavior"] for result in report.values())
    seconds = sum(result["duration"] for result in report.values()) / 1000
    print("%s: %d cases in %.0f s: %s" % (
        name, len(report), seconds, ", ".join("%d %s" % (n, kind) for kind, n in kinds.most_common())))
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--cases", default="*")
    parser.add_argument("--without", default="")
    parser.add_argument("--expect", type=int, default=ALL_CASES)
    parser.add_argument("--limit", type=int, default=1800, help="seconds")
    parser.add_argument("--tls", type=pathlib.Path, metavar="DIRECTORY")
    parser.add_argument("mode", choices=["server", "client"])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    program = wstest()
    out = CACHE / "results" / options.name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    specification = {
        "outdir": str(out),
        "cases": options.cases.split(","),
        "exclude-cases": [pattern for pattern in options.without.split(",") if pattern],
        "exclude-agent-cases": {},
    }
    run = run_server if options.mode == "server" else run_client
    run(program, options.command, specification, out, options.limit, options.tls)
    reports = json.loads((out / "index.json").read_text())
    (report,) = reports.values()
    sys.exit(1 if check_report(options.name, report, options.expect) else 0)


if __name__ == "__main__":
    main()
