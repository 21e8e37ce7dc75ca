# Sourced by the scripts of this folder: two hosts on one machine. They are network namespaces with a
# cable between them, each with a host name and a /dev/shm of its own; files are shared, as by NFS.
. tests/dist/lib.sh
. tests/dist/dead.sh

if [ "$(id -u)" != 0 ] || ! command -v ip >/dev/null || ! command -v unshare >/dev/null; then
    skip "two hosts" "needs root, ip and unshare"
    finish
fi

space=puck$$ # of names of namespaces and cables
net=10.213.77.0/30
cluster=$PWD/bench/cluster

# Processes of a host.
host_pids() { ip netns pids "$space-$1" 2>/dev/null; }

hosts_stop() {
    local host
    for host in hostA hostB; do
        host_pids $host | xargs -r kill -KILL 2>/dev/null
        ip netns del "$space-$host" 2>/dev/null
    done
    rm -rf "$work"
}

hosts_start() {
    local host n=1
    trap hosts_stop EXIT
    for host in hostA hostB; do
        ip netns add "$space-$host" && ip -n "$space-$host" link set lo up || return 1
    done
    ip link add cable netns "$space-hostA" type veth peer name cable netns "$space-hostB" || return 1
    for host in hostA hostB; do
        ip -n "$space-$host" addr add "10.213.77.$n/30" dev cable &&
            ip -n "$space-$host" link set cable up || return 1
        n=$((n + 1))
    done
    # In place of ssh: agent [OPTION...] HOST COMMAND... A folder that "$work/HOST-lacks" names is
    # empty there.
    cat >"$work/agent" <<END
#!/usr/bin/env bash
while [[ \$1 == -* ]]; do shift; done
host=\$1
shift
lacks=\$(cat "$work/\$host-lacks" 2>/dev/null)
export lacks
exec ip netns exec $space-\$host unshare -um sh -c \
    'hostname "\$0"; mount -t tmpfs none /dev/shm; [ -z "\$lacks" ] || mount -t tmpfs none "\$lacks"; exec "\$@"' \
    "\$host" sh -c "\$*"
END
    chmod +x "$work/agent"
}

# mpirun as called on hostA. What is not in openmpi.conf is of this stage: root, the agent, the cable.
launch=("$work/agent" hostA mpirun --tune "$cluster/openmpi.conf" --hostfile "$cluster/hosts"
    --allow-run-as-root --mca plm rsh --mca plm_rsh_agent "$work/agent" --mca btl tcp,self
    --mca btl_tcp_if_include $net --mca oob_tcp_if_include $net)
# ranks_of LAUNCHER: process numbers, the first host's first.
ranks_of() {
    local host pid
    for host in hostA hostB; do
        for pid in $(host_pids $host | sort -n); do
            [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != puck ] || echo "$pid"
        done
    done
}
