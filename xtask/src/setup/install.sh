# Installs Debian packages without starting any daemon. Arguments: package names.
#
# A shell does this because its traps run when the terminal interrupts, or somebody ends, the whole group.
set -eu
policy=/usr/sbin/policy-rc.d
saved=$policy.before-torline
mark='written by cargo xtask setup'

restore() {
    rm -f "$policy"
    if [ -e "$saved" ] || [ -L "$saved" ]; then mv "$saved" "$policy"; fi
}

# An earlier run that was killed outright may have left its own file there.
if [ -e "$policy" ] || [ -L "$policy" ]; then
    grep -qs "$mark" "$policy" || mv "$policy" "$saved"
fi
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# invoke-rc.d and deb-systemd-invoke ask this file; 101 means "do not".
printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" > "$policy"
chmod 755 "$policy"

# Packages with a router in them, each with its services.
routers='bird2:bird frr:frr gobgpd:gobgpd openbgpd:openbgpd,bgplgd exabgp:exabgp'
fresh=
for router in $routers; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "${router%%:*}" 2>/dev/null || true)
    [ "$state" = installed ] || fresh="$fresh $router"
done

export DEBIAN_FRONTEND=noninteractive
# --no-remove: a compiler that conflicts with one already here is refused, not swapped in.
apt-get install -y -q --no-install-recommends --no-remove "$@"

# Nor at the next boot: port 179 is the agent's peer's, not the package's.
disable() {
    if command -v systemctl >/dev/null; then systemctl disable -q "$1.service" || true
    elif command -v update-rc.d >/dev/null; then update-rc.d "$1" disable || true
    fi
}
for router in $fresh; do
    case " $* " in
        *" ${router%%:*} "*)
            services=${router#*:}
            while [ -n "$services" ]; do
                disable "${services%%,*}"
                case $services in *,*) services=${services#*,} ;; *) services= ;; esac
            done ;;
    esac
done
