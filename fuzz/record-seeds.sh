#!/bin/bash
# Records the seeds of the `replay` target again, as root: `fuzz/record-seeds.sh target/debug/tracer`. They are of one
# version of the recording, so that a change of the recorded types makes them unreadable, which a test reports.
# Everything happens in namespaces of its own, so that the seeds name nothing of the host but its kernel.
set -eu
if [ "${1-}" != --inside ]; then
    exec unshare --mount --net --pid --uts --fork --mount-proc --propagation private \
        "$0" --inside "$(realpath "$1")" "$(dirname "$(realpath "$0")")/seeds/replay"
fi
seeds=$3
hostname host
mkdir -p "$seeds"
mount -t tmpfs none /home
mkdir /home/.openclaw /home/bin /home/seeds
mount --bind "$seeds" /home/seeds
cp "$2" /home/bin/tracer
export HOME=/home PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /home
ip link set lo up
ip link add near type veth peer name far
ip address add 10.0.0.5/24 dev near
ip link set near up
ip link set far up

# server NAME ADDRESS SECONDS [DELAY]
server() {
    exec /usr/bin/python3 - "$@" <<'PYTHON'
import ctypes, socket, sys, time
name, address, seconds, *delay = sys.argv[1:]
ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
time.sleep(float(delay[0]) if delay else 0)
server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((address, 18789))
server.listen()
time.sleep(float(seconds))
PYTHON
}
client() { curl --silent --max-time 1 "http://$1:18789/" >/dev/null || true; }

wrong_address() {
    server elsewhere 10.0.0.5 3 &
    sleep 1
    client 127.0.0.1
    client 127.0.0.1
    server here 127.0.0.1 1 &
    sleep 0.5
    client 127.0.0.1
}
wrong_family() {
    server six ::1 2 &
    sleep 0.4
    client 127.0.0.1
    (server another ::1 1) 2>/dev/null || true
    client localhost
}
gateway() {
    echo '{gateway:{bind:"lan",port:18789}}' >.openclaw/openclaw.json
    server openclaw-gateway 10.0.0.5 2 1 &
    sleep 0.6
    client 127.0.0.1
    sleep 0.8
    client 127.0.0.1
    echo '{gateway:{bind:"loopback",port:18789}}' >.openclaw/openclaw.json
    sleep 0.5
    client 127.0.0.1
}
nothing_listening() {
    client 127.0.0.1
    client 203.0.113.7
}

for scenario in wrong_address wrong_family gateway nothing_listening; do
    name=${scenario//_/-}
    bin/tracer record "seeds/$name" --port 18789 --all --for 6s >/dev/null &
    sleep 1.5
    $scenario
    wait
done
