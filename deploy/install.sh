#!/bin/sh
# Installs inspectd as a service of this machine, upgrades it in place, removes it.
# What is where afterwards: deploy/install.sh --help
set -eu

name=install.sh
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
tree=$(dirname -- "$here")
prefix=/opt/inspectd extras=openvino,genicam config="$here/inspectd.toml" root='' python=''
package='' wheelhouse='' venv='' start=yes dry='' action=install purge=''
etc=/etc/inspectd state=/var/lib/inspectd cache=/var/cache/inspectd
units=/usr/local/lib/systemd/system doc=/usr/local/share/doc/inspectd
command=/usr/local/bin/inspectd
bash_completion=/usr/local/share/bash-completion/completions/inspectd

usage() {
    cat <<'END'
usage: install.sh [options]            install, or upgrade what is installed
       install.sh --remove [--purge]   remove; products and configuration stay unless --purge

  --config FILE      configuration to begin with, as /etc/inspectd/<its name>; one that is there
                     is never overwritten (default: the annotated example, inspectd.toml)
  --extras LIST      openvino,genicam (default: what a line needs); all: also calibration
  --prefix DIR       where the program goes (default: /opt/inspectd)
  --python FILE      the Python to use, 3.11 or newer (default: the system's)
  --package FILE     a wheel instead of the source tree that this script lies in
  --wheelhouse DIR   no network: take all packages from this folder
  --venv DIR         use this environment, made elsewhere, instead of making one
  --no-start         start and enable nothing
  --root DIR         put files below DIR (for packages and images); nothing of this machine changes
  --dry-run          say what would be done

Examples:
  sudo deploy/install.sh                                  # this machine, packages from the network
  sudo deploy/install.sh --config press4.toml             # station press4: inspectd@press4
  pip wheel -c constraints.txt -w wheels '.[openvino,genicam]'   # on a machine with a network, then
  sudo deploy/install.sh --wheelhouse wheels              # on the one without
  sudo deploy/install.sh --remove

Program in PREFIX/venvs/<time>, PREFIX/current points to the one that runs; configurations in
/etc/inspectd, products in /var/lib/inspectd, units in /usr/local/lib/systemd/system.
END
}

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$name" "$*" >&2
    exit 1
}
wrong() {
    printf '%s: %s; see %s --help\n' "$name" "$*" "$0" >&2
    exit 2
}
run() {
    if [ -n "$dry" ]; then say "would: $*"; else "$@"; fi
}
put() { run install -D -m "$1" "$2" "$root$3"; } # put MODE FILE PATH
write() {                                        # write MODE PATH, content from stdin
    if [ -n "$dry" ]; then
        cat >/dev/null
        say "would: write $root$2"
    else
        mkdir -p "$(dirname "$root$2")"
        cat >"$root$2.new"
        chmod "$1" "$root$2.new"
        mv "$root$2.new" "$root$2"
    fi
}
has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }
active() { systemctl list-units --plain --no-legend --state=active,activating 'inspectd@*' | cut -d' ' -f1; }
enabled() { systemctl is-enabled --quiet "inspectd@$1" 2>/dev/null; }
as_daemon() { # the environment that the unit gives
    set -- env STATE_DIRECTORY="$root$state" CACHE_DIRECTORY="$root$cache" "$@"
    if [ -n "$root" ]; then "$@"; else runuser -u inspectd -- "$@"; fi
}

# --- before anything is changed ------------------------------------------------------------------

at_home() {
    "$1" -c 'import sys; sys.exit(not any(p.startswith(("/root/", "/home/")) for p in (sys.prefix, sys.base_prefix)))'
}
suits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [ -n "$python" ]; then
        command -v "$python" >/dev/null || die "$python: no such program; give a Python with --python"
        suits "$python" || die "$("$python" --version 2>&1) is too old; give 3.11 or newer with --python"
    else
        for python in /usr/bin/python3 /usr/local/bin/python3 python3.13 python3.12 python3.11 python3 ''; do
            [ -n "$python" ] || die "no Python 3.11 or newer; apt-get install python3, or --python FILE"
            # a home directory's (pyenv) only with --python: see below
            if suits "$python" && ! at_home "$python"; then break; fi
        done
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python can't make environments; apt-get install python3-venv"
}

check_machine() {
    if [ -z "$root" ]; then
        [ "$(id -u)" = 0 ] || [ -n "$dry" ] || die "needs root; sudo $0"
        command -v systemd-sysusers >/dev/null || die "needs systemd; without it: inspectd run under a supervisor of yours"
    fi
    [ -f "$config" ] || die "$config: no such file; give a configuration with --config"
    case "$(basename "$config")" in
    *[!A-Za-z0-9_.-]*) die "$config: letters, digits, _ . and - make a station's name; rename it" ;;
    *.toml) ;;
    *) die "$config: must end in .toml" ;;
    esac
    if [ -n "$venv" ]; then
        [ -x "$venv/bin/inspectd" ] || die "$venv has no bin/inspectd; pip install inspectd into it"
        python="$venv/bin/python"
    else
        find_python
        need=1500 # MiB
        case "$extras" in *all* | *calibration*) need=9000 ;; esac
        place="$root$prefix"
        while [ ! -d "$place" ]; do place=$(dirname "$place"); done
        free=$(df -Pm "$place" | awk 'NR == 2 { print $4 }')
        [ "$free" -ge "$need" ] ||
            die "$place has $free MiB free, $need are needed; make room, or choose another --prefix or --extras"
    fi
    if at_home "$python"; then
        trouble="$python belongs to a home directory, which the service may not read (ProtectHome)"
        [ -n "$root" ] || die "$trouble; give another with --python"
        say "warning: $trouble"
    fi
}

# --- install ---------------------------------------------------------------------------------------

make_venv() { # sets $new, the environment's place on the target
    if [ -n "$venv" ]; then
        new=$(CDPATH='' cd -- "$venv" && pwd)
        built=$new
        return
    fi
    new="$prefix/venvs/$(date +%Y%m%d-%H%M%S)-$$"
    built="$root$new"
    [ -n "$dry" ] || trap 'rm -rf "$built"' EXIT # until it has proved itself
    run "$python" -m venv "$built"
    set -- --quiet --disable-pip-version-check --constraint "$tree/constraints.txt"
    if [ -n "$wheelhouse" ]; then
        set -- "$@" --no-index --find-links "$wheelhouse"
        for wheel in "$wheelhouse"/inspectd-*.whl; do [ ! -f "$wheel" ] || package="${package:-$wheel}"; done
    fi
    if [ -z "$package" ] && [ -z "$dry" ]; then # built in a copy: a stale build/ would be packed too
        package="$built/source"
        mkdir "$package"
        cp -R "$tree/inspectd" "$tree/calibration" "$tree/pyproject.toml" "$tree/README.md" "$tree/LICENSE" "$package"
    fi
    say "installing packages ($extras)"
    run "$built/bin/python" -m pip install "$@" "${package:-$tree}[$extras]" ||
        die "pip failed, nothing was changed; without a network give --wheelhouse"
    run rm -rf "$built/source"
    [ -z "$root" ] || [ -n "$dry" ] || # scripts name their interpreter as the target sees it
        sed -i "s|$built|$new|g" "$built"/bin/[!p]* "$built"/bin/pip* "$built/pyvenv.cfg"
}

put_user() {
    put 644 "$tree/systemd/inspectd.sysusers" /usr/local/lib/sysusers.d/inspectd.conf
    put 644 "$tree/systemd/inspectd.tmpfiles" /usr/local/lib/tmpfiles.d/inspectd.conf
    if [ -n "$root" ]; then
        run mkdir -p "$root$etc/products.d"
    else
        run systemd-sysusers /usr/local/lib/sysusers.d/inspectd.conf
        run systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/inspectd.conf
    fi
    station=$(basename "$config" .toml)
    if [ -e "$root$etc/$station.toml" ]; then
        say "kept: $root$etc/$station.toml"
    else
        put 640 "$config" "$etc/$station.toml"
        [ -n "$root" ] || run chgrp inspectd "$etc/$station.toml"
    fi
}

prove() { # the new environment works (-P: it, not the tree we may stand in), and takes what runs
    [ -z "$dry" ] || return 0
    report=$(as_daemon "$built/bin/python" -P -m inspectd doctor 2>&1) ||
        die "inspectd doctor isn't content, the program was not changed:
$report"
    has_systemd || return 0
    for file in "$etc"/*.toml; do
        enabled "$(basename "$file" .toml)" || continue
        as_daemon "$built/bin/python" -P -m inspectd check-config --config "$file" >/dev/null ||
            die "the new version refuses $file, the old one goes on; mend the file first"
    done
}

put_files() {
    for unit in inspectd@.service inspectd.target; do
        sed "s|/opt/inspectd/current|$prefix/current|" "$tree/systemd/$unit" | write 644 "$units/$unit"
    done
    write 755 "$command" <<END
#!/bin/sh
# The installed inspectd, with the service's places for those who may write there.
if [ -w $state ]; then
    : "\${STATE_DIRECTORY:=$state}" "\${CACHE_DIRECTORY:=$cache}"
    export STATE_DIRECTORY CACHE_DIRECTORY
fi
exec $prefix/current/bin/inspectd "\$@"
END
    if [ -z "$dry" ]; then
        _INSPECTD_COMPLETE=source_bash "$built/bin/python" -P -m inspectd | write 644 "$bash_completion"
    fi
    for file in inspectd.toml products.d/bottle.toml; do put 644 "$here/$file" "$doc/examples/$file"; done
    for folder in "$here/plc" "$here/mosquitto" "$tree/systemd/drop-ins"; do
        for file in "$folder"/*; do put 644 "$file" "$doc/$(basename "$folder")/$(basename "$file")"; done
    done
}

switch() { # switch TARGET: in one step, whatever happens
    run mkdir -p "$root$prefix"
    run ln -sfn "$1" "$root$prefix/current.new"
    run mv -T "$root$prefix/current.new" "$root$prefix/current"
}

restart() { # what runs, with the new program; with the old one again if that fails
    run systemctl daemon-reload
    [ -z "$dry" ] || return 0
    for unit in $(active); do
        say "restarting $unit"
        systemctl restart "$unit" && continue
        [ -n "$old" ] || die "$unit doesn't start; journalctl -u $unit -n 50"
        switch "$old"
        systemctl reset-failed 'inspectd@*'
        for again in $(active) "$unit"; do systemctl restart "$again" || true; done
        die "$unit doesn't start with the new version, $old runs again; journalctl -u $unit -n 100"
    done
}

begin() { # starts the station where its configuration is ready
    trouble=$(as_daemon "$built/bin/python" -P -m inspectd check-config --config "$etc/$station.toml" 2>&1) || {
        say "not started: $trouble"
        return 0
    }
    if has_systemd; then
        systemctl reset-failed 'inspectd@*' 2>/dev/null || true # its attempts may be used up
        run systemctl enable --quiet --now inspectd.target "inspectd@$station" ||
            die "inspectd@$station doesn't start; journalctl -u inspectd@$station -n 50"
        say "runs: systemctl status inspectd@$station"
    fi
}

install_all() {
    check_machine
    old=$(readlink "$root$prefix/current" 2>/dev/null || true)
    make_venv
    put_user
    prove
    trap - EXIT
    put_files
    switch "$new"
    if has_systemd; then restart; fi
    [ -z "$old" ] || [ "$old" = "$new" ] || say "the version before is kept: $old"
    for other in "$root$prefix"/venvs/*; do # older ones aren't
        [ ! -d "$other" ] || [ "$other" = "$root$new" ] || [ "$other" = "$root$old" ] || run rm -rf "$other"
    done
    say "installed: $prefix/current"
    if [ "$start$dry$root" = yes ]; then begin; fi
    cat <<END
next:
  sudo -u inspectd inspectd calibrate --product NAME --images DIR      # or: inspectd product ...
  edit $etc/$station.toml, then: sudo inspectd check-config -c $etc/$station.toml
  systemctl enable --now inspectd.target inspectd@$station
  what the PLC must do, the broker's ACL, drop-ins: $doc
END
}

# --- remove ------------------------------------------------------------------------------------------

remove_all() {
    [ -n "$root$dry" ] || [ "$(id -u)" = 0 ] || die "needs root; sudo $0 --remove"
    if has_systemd; then
        for unit in $(active); do run systemctl stop "$unit"; done
        for link in /etc/systemd/system/inspectd.target.wants/inspectd@*; do
            [ ! -L "$link" ] || run systemctl disable --quiet "$(basename "$link")"
        done
        if [ -f "$units/inspectd.target" ]; then
            run systemctl disable --quiet --now inspectd.target
        fi
    fi
    run rm -f "$root$units/inspectd@.service" "$root$units/inspectd.target" "$root$command" \
        "$root$bash_completion" "$root/usr/local/lib/tmpfiles.d/inspectd.conf" "$root$prefix/current"
    run rm -rf "$root$prefix/venvs" "$root$doc"
    [ ! -d "$root$prefix" ] || run rmdir "$root$prefix" 2>/dev/null || true # not ours alone
    if has_systemd; then run systemctl daemon-reload; fi
    if [ -n "$purge" ]; then
        run rm -rf "$root$etc" "$root$state" "$root$cache" "$root/etc/systemd/system/inspectd@.service.d"
        run rm -f "$root"/etc/credstore/inspectd.*
        [ -n "$root" ] || ! id inspectd >/dev/null 2>&1 || run userdel inspectd
        run rm -f "$root/usr/local/lib/sysusers.d/inspectd.conf"
        say "removed, with configuration, products and ledger"
    else
        say "removed; kept: $root$etc, $root$state, $root$cache and the user (--purge removes them)"
    fi
}

while [ $# -gt 0 ]; do
    case "$1" in
    --config | --extras | --prefix | --python | --package | --wheelhouse | --venv | --root)
        [ $# -ge 2 ] || wrong "$1 needs a value"
        option=${1#--}
        case "$option" in
        config) config=$2 ;;
        extras) extras=$2 ;;
        prefix) prefix=${2%/} ;;
        python) python=$2 ;;
        package) package=$2 ;;
        wheelhouse) wheelhouse=$2 ;;
        venv) venv=$2 ;;
        root) root=${2%/} ;;
        esac
        shift
        ;;
    --no-start) start='' ;;
    --dry-run) dry=yes ;;
    --remove) action=remove ;;
    --purge) purge=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) wrong "$1: unknown option" ;;
    esac
    shift
done
for path in "$prefix" "${root:-/}"; do
    case "$path" in /*) ;; *) wrong "$path: must be absolute" ;; esac
done
[ -z "$purge" ] || [ "$action" = remove ] || wrong "--purge goes with --remove"
"${action}_all"
