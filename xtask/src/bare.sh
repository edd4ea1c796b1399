# Runs a command as `cargo xtask bare` needs it (see bare.rs). Arguments: `yes` if this process has a private mount
# namespace, otherwise `no`; the umask; the command and its arguments.
set -eu
own_mounts=$1 umask=$2
shift 2
if [ "$own_mounts" = yes ]; then
    umount --all --lazy --types tracefs,debugfs,bpf,securityfs
    if grep -E ' - (tracefs|debugfs|bpf|securityfs) ' /proc/self/mountinfo; then
        echo "bare: cannot unmount the file systems above" >&2
        exit 1
    fi
fi
# What a login or a systemd service starts with.
ulimit -S -n 1024
trap '' HUP
umask "$umask"
# A new session has no controlling terminal: /dev/tty cannot be opened either.
exec setsid --wait "$@"
