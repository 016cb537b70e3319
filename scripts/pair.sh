# Two scratch clusters, "source" and "destination", that share a store: sourced by scripts/demo and by bench/*.
# All of it lives in $work, a folder of the server's user, and goes with it. STORE=s3 puts the store on a server of S3.

# The server inherits it, and with it errors would tell where in the code they arose.
unset RUST_BACKTRACE

work=$(mktemp -d)
root=${PG_TABLE_EXPORT_ROOT:-$work/root}
bin=$root/usr/lib/postgresql/15/bin
store=$work/store
mkdir "$work"/{root,source,destination,store}
chmod 755 "$work"
((EUID != 0)) || chown postgres: "$work"/{source,destination,store}

# PostgreSQL refuses to run as root.
as_server() {
    if ((EUID == 0)); then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

stop_clusters() {
    [[ -z ${s3-} ]] || kill "$s3" 2>/dev/null || true
    for cluster in source destination; do
        if [[ -e $work/$cluster/data/postmaster.pid ]]; then
            as_server "$bin/pg_ctl" stop --silent --mode immediate --pgdata "$work/$cluster/data"
        fi
    done
    rm -rf "$work"
}
trap stop_clusters EXIT

# install_extension: an optimized build, in a PostgreSQL installation of its own, unless PG_TABLE_EXPORT_ROOT names one.
install_extension() {
    [[ -z ${PG_TABLE_EXPORT_ROOT-} ]] || return 0
    "$(dirname "${BASH_SOURCE[0]}")/install" "$root" >"$work/build" 2>&1 || { cat "$work/build"; exit 1; }
}

# start_store: starts the server of S3, with an empty bucket, that STORE asks for; servers learn of it by their environment.
start_store() {
    [[ ${STORE-} == s3 ]] || return 0
    local port
    mkdir "$store/batches"
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=exporter AWS_SECRET_ACCESS_KEY=$RANDOM$RANDOM$RANDOM
    "$(dirname "${BASH_SOURCE[0]}")/../target/servers/bin/s3s-fs" --host 127.0.0.1 --port "$port" \
        --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" "$store" &>"$work/s3" &
    s3=$!
    until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        kill -0 "$s3" || { cat "$work/s3"; exit 1; }
        sleep 0.1
    done
    store=s3://batches
}

# start CLUSTER [SETTING…]: a new server with the database demo; all the two share is the store.
start() {
    as_server "$bin/initdb" --pgdata "$work/$1/data" --username postgres --auth trust --no-sync \
        --encoding UTF8 --locale C.UTF-8 >/dev/null
    cat >>"$work/$1/data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$work/$1'
max_wal_size = '4GB'
pg_table_export.store = '$store'
END
    (($# == 1)) || printf '%s\n' "${@:2}" >>"$work/$1/data/postgresql.conf"
    as_server "$bin/pg_ctl" start --silent --pgdata "$work/$1/data" --log "$work/$1/log" >/dev/null
    "$bin/createdb" --host "$work/$1" --username postgres demo
    sql "$1" -c 'CREATE EXTENSION pg_table_export'
}

# sql CLUSTER OPTIONS: psql with bare output.
sql() {
    PGOPTIONS='-c client_min_messages=warning' "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
        --host "$work/$1" --username postgres --dbname demo "${@:2}"
}
