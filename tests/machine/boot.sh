#!/bin/bash
# boot.sh FOLDER SCRIPT: boots this host's own files under a systemd of its own, runs SCRIPT there as root, and ends with its success.
#
# FOLDER holds what SCRIPT needs; it is /host inside. All that is written lands in memory and is forgotten. To be started in a mount
# namespace of its own (unshare --mount), so that its mounts end with it.
set -eu
folder=$1 script=$2
stage=$(mktemp -d)
trap 'umount -R "$stage"; rmdir "$stage"' EXIT
mount -t tmpfs tmpfs "$stage"
mkdir "$stage"/{upper,work,root,bpf}
mount -t overlay overlay -o "lowerdir=/,upperdir=$stage/upper,workdir=$stage/work" "$stage/root"
# Pins of its own.
mount -t bpf bpf "$stage/bpf"

units=$stage/root/etc/systemd/system
# None of the host's services, and no first boot.
rm -rf "$units"/*.wants
echo 0123456789abcdef0123456789abcdef > "$stage/root/etc/machine-id"
cat > "$units/script.service" <<UNIT
[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
WorkingDirectory=/host
ExecStart=/bin/bash -c 'bash /host/$script > /host/log 2>&1 && touch /host/passed'
TimeoutStartSec=240
UNIT
cat > "$units/script.target" <<UNIT
[Unit]
Requires=multi-user.target
Wants=script.service
UNIT
ln -sf script.target "$units/default.target"

timeout 300 systemd-nspawn --quiet --directory="$stage/root" --register=no --keep-unit --private-network \
    --bind="$folder:/host" --bind="$stage/bpf:/sys/fs/bpf" \
    --capability=CAP_BPF,CAP_NET_ADMIN --system-call-filter=bpf --boot < /dev/null > "$folder/console" 2>&1
[ -e "$folder/passed" ]
