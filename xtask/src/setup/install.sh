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

bird_before=$(dpkg-query -W -f '${db:Status-Status}' bird2 2>/dev/null || true)

export DEBIAN_FRONTEND=noninteractive
# --no-remove: a compiler that conflicts with one already here is refused, not swapped in.
apt-get install -y -q --no-install-recommends --no-remove "$@"

# Nor at the next boot: port 179 is the agent's peer's, not the package's.
if [ "$bird_before" != installed ]; then
    case " $* " in
        *' bird2 '*)
            if command -v systemctl >/dev/null; then systemctl disable -q bird.service || true
            elif command -v update-rc.d >/dev/null; then update-rc.d bird disable || true
            fi ;;
    esac
fi
