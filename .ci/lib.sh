# The functions of .ci/run, which sources this file.

results=$(mktemp)   # the output of all checks
jobs_running=()     # process groups that are killed on exit
summarised=no       # whether the last line was printed
start_of_all=$SECONDS

die() {
    printf '\nCI FAILED after %d s: %s\n' $((SECONDS - start_of_all)) "$*" >&2
    summarised=yes
    exit 1
}

cleanup() {
    local status=$?
    local group
    for group in "${jobs_running[@]}"; do
        kill -TERM -- "-$group" 2>/dev/null || true
    done
    if ((${#jobs_running[@]})); then
        sleep 0.5
        for group in "${jobs_running[@]}"; do
            kill -KILL -- "-$group" 2>/dev/null || true
        done
    fi
    rm -f "$results"
    if ((status != 0)) && [[ $summarised == no ]]; then
        printf 'CI FAILED after %d s (status %d)\n' $((SECONDS - start_of_all)) "$status" >&2
    fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Runs a command for at most `$1` seconds, in its own process group, so that all of its processes can
# be killed. It is waited for by `wait`, which a signal interrupts.
in_group() {
    local seconds=$1 status=0 group watchdog
    shift
    set -m
    "$@" </dev/null &
    group=$!
    {
        sleep "$seconds"
        echo "OUT OF TIME: not done after $seconds s" >&2
        kill -TERM -- "-$group"
        sleep 10
        kill -KILL -- "-$group"
    } &
    watchdog=$!
    disown "$watchdog"
    set +m
    jobs_running+=("$watchdog" "$group")
    wait "$group" || status=$?
    # Kills the processes that the command left running.
    kill -KILL -- "-$watchdog" "-$group" 2>/dev/null || true
    unset 'jobs_running[-1]' 'jobs_running[-1]'
    return "$status"
}

# Runs a step, whose failure ends the run.
step() {
    local name=$1 seconds=$2 start=$SECONDS status=0
    shift 2
    printf '\n=== %s\n' "$name"
    in_group "$seconds" "$@" || status=$?
    printf -- '--- %s: %d s\n' "$name" $((SECONDS - start))
    ((status == 0)) || die "$name (status $status)"
}

# Runs a script of named checks. The run continues after a failed check.
checks() {
    local name=$1 seconds=$2 start=$SECONDS status=0 passed failed
    shift 2
    printf '\n=== %s\n' "$name"
    passed=$(number_of ok)
    failed=$(number_of FAIL)
    in_group "$seconds" recorded "$@" || status=$?
    printf -- '--- %s: %d s\n' "$name" $((SECONDS - start))
    # A script that failed without a failed check, or without any check, counts as a failed check.
    if (($(number_of FAIL) == failed && (status != 0 || $(number_of ok) == passed))); then
        record FAIL "${name//[ ,]/-}" "failed or checked nothing (status $status)"
    fi
}

number_of() {
    grep -c "^$1 " "$results" || true
}

record() {
    echo "$*" | tee -a "$results"
}

# Runs a command and records its output. tee ignores SIGTERM, so that it records all output when the
# process group is ended.
recorded() {
    "$@" 2>&1 | (
        trap '' TERM
        exec tee -a "$results"
    )
}

# Starts a server: sets `server_url`, and writes its output to .cache/interop/server-NAME.*.
start_server() {
    local name=$1 line
    shift
    server_log=$cache/server-$name
    : >"$server_log.out"
    set -m
    RUST_LOG=${RUST_LOG:-warn} "$@" </dev/null >"$server_log.out" 2>"$server_log.err" &
    server_pid=$!
    set +m
    jobs_running+=("$server_pid")
    for _ in {1..100}; do
        line=$(grep -m1 -oE 'listening on wss?://.*' "$server_log.out" || true)
        if [[ -n $line ]]; then
            server_url=${line#listening on }
            printf '\n%s: %s\n' "$name" "$line"
            return
        fi
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$server_log.err" >&2
    die "$* did not print its address"
}

# Ends the server by SIGTERM, and checks its status and that it did not panic.
stop_server() {
    local name=$1 status=0 waited=0
    kill -TERM "$server_pid" 2>/dev/null || true
    while kill -0 "$server_pid" 2>/dev/null && ((waited < 100)); do
        sleep 0.1
        waited=$((waited + 1))
    done
    if ((waited == 100)); then
        kill -KILL "$server_pid" 2>/dev/null || true
    fi
    wait "$server_pid" || status=$?
    unset 'jobs_running[-1]'
    if ((status == 0)); then
        record ok "server-$name-ends-with-status-0"
    else
        record FAIL "server-$name-ends-with-status-0" "status $status after $((waited / 10)) s"
    fi
    if grep -q -i 'panicked' "$server_log.err"; then
        tail -n 40 "$server_log.err" >&2
        record FAIL "server-$name-did-not-panic" "see above"
    else
        record ok "server-$name-did-not-panic"
    fi
}

# Prints the last lines of the output, and returns the status of the whole run.
summary() {
    local passed failed
    passed=$(number_of ok)
    failed=$(number_of FAIL)
    printf '\n=== summary (%d s)\n' $((SECONDS - start_of_all))
    grep '^FAIL ' "$results" || true
    summarised=yes
    printf '%d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0 && passed > 0))
}

raise_file_limit() {
    local limit
    limit=$(ulimit -Sn)
    if [[ $limit != unlimited ]] && ((limit < $1)); then
        ulimit -Sn "$1" || ulimit -n "$1" || die "cannot raise the limit of open files from $limit to $1"
    fi
}
