# The Debian package on a machine with systemd: installed, used, upgraded, removed, purged. See boot.sh.
set -eux

until_true() { # until_true COMMAND...: within 30 s
    for _ in $(seq 60); do
        if "$@"; then return; fi
        sleep 0.5
    done
    echo "never true: $*"
    systemctl status --no-pager weir-agent 'weir-proxy*' || true
    return 1
}
live() { [ "$(weir zones --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["zones"][0]["websockets"])')" = "$1" ]; }
pid() { systemctl show --property MainPID --value "$1"; }
is() { [ "$(systemctl is-active "$1")" = "$2" ]; }

# Installed: nothing runs that nobody asked for.
dpkg --install weir.deb
is weir-agent inactive
is weir-proxy inactive
id weir-proxy
zcat /usr/share/man/man1/weir-zone-block.1.gz | grep -q 'TH weir-zone-block 1'
bash -c '. /usr/share/bash-completion/completions/weir && complete -p weir'

# Used.
sed -i 's/^\[proxy\]$/[proxy]\ndrain_timeout = "1s"\nclose_spread = "0s"/' /etc/weir/weir.toml
printf '[[zones]]\nname = "a.test"\nplan = "standard"\norigin = "ws://127.0.0.1:9001"\n' > /etc/weir/zones.d/a.toml
weir check
systemctl enable --now weir-agent weir-proxy
systemd-run --unit=origin /host/helper origin 127.0.0.1:9001 Echo
until_true bash -c 'exec 2> /dev/null; : < /dev/tcp/127.0.0.1/9001'
mkfifo /run/hold
sleep 240 > /run/hold &
# Held on stdin until the end of the test.
/host/helper hold 127.0.0.1:80 a.test 3 < /run/hold &
until_true live 3

# A killed agent comes back, and has lost nothing.
agent=$(pid weir-agent)
kill -KILL "$agent"
until_true is weir-agent active
[ "$(pid weir-agent)" != "$agent" ]
until_true live 3
weir zone block a.test --for 1m --reason "a test of the package"
weir zone unblock a.test --reason "it was one"
weir ledger verify

# Upgraded: the agent is exchanged, the proxy is not.
agent=$(pid weir-agent) proxy=$(pid weir-proxy)
dpkg --install weir.deb
until_true is weir-agent active
[ "$(pid weir-agent)" != "$agent" ]
[ "$(pid weir-proxy)" = "$proxy" ]
until_true live 3
systemctl start weir-proxy@next
is weir-proxy@next active
until_true is weir-proxy inactive
# Those that it held were told to go, and its successor serves.
/host/helper hold 127.0.0.1:80 a.test 2 < /run/hold &
until_true live 2
test -s /var/log/weir/access.log

# Removed: the kernel is as it was, the ledger stays.
dpkg --remove weir
[ -z "$(ls -A /sys/fs/bpf/weir 2> /dev/null)" ]
[ "$(systemctl is-active weir-agent)" != active ]
test -s /var/lib/weir/ledger.db
test -e /etc/weir/weir.toml

# Purged: nothing stays.
dpkg --purge weir
for path in /var/lib/weir /var/log/weir /etc/weir; do
    [ ! -e "$path" ]
done
